/**
 * The bodies of requests and responses, and the data of the frames that the server sends.
 * Made by `make docs` (orbital_relay.server.http.docs.javascript) from the types of `/openapi.json` and
 * `/asyncapi.json`.
 */

/**
 * The server's name and version, and who may create an account.
 *
 * @typedef {object} About
 * @property {string} name
 * @property {string} version
 * @property {'closed' | 'invited' | 'open'} signups `invited`: `POST /api/signup` needs `invitation`; `closed`: it is refused.
 * @property {string | null} public_url The server's address, if the operator set it.
 * @property {AboutLimits} limits
 */

/**
 * The server's limits. Sizes are in bytes, times in days.
 *
 * @typedef {object} AboutLimits
 * @property {number} envelope_bytes Largest encrypted field, after decoding.
 * @property {number} media_chunk_bytes
 * @property {number} media_file_bytes
 * @property {number} media_group_bytes
 * @property {number} media_group_files
 * @property {number} retention_days How long events are kept.
 * @property {number} media_days How long media are kept.
 */

/**
 * An annotation.
 *
 * @typedef {object} Annotation
 * @property {string} annotation_id
 * @property {string} thread_id
 * @property {string} target_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_body
 * @property {string} created_at
 * @property {number} seq Its number in the group's log.
 */

/**
 * A new annotation.
 *
 * @typedef {object} AnnotationBody
 * @property {string} target_id The thread itself, or a reply or a stored medium in it.
 * @property {string} encrypted_body Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * The annotation is durable; `seq` is its number in the group.
 *
 * @typedef {object} AnnotationCreated
 * @property {string} annotation_id
 * @property {string} thread_id
 * @property {string} target_id
 * @property {string} created_at
 * @property {number} seq
 */

/**
 * Annotations of a thread in the order of the log.
 *
 * @typedef {object} Annotations
 * @property {Array<Annotation>} annotations
 * @property {boolean} has_more Whether more follow: repeat with `after_seq`, the `seq` of the last one here.
 */

/**
 * The first frame.
 *
 * @typedef {object} AuthSuccess
 * @property {string} user_id
 * @property {string} username
 * @property {string} connected_at
 * @property {string} session_id
 * @property {number} heartbeat_seconds
 * @property {number} max_frame_bytes
 * @property {string} expires_at
 */

/**
 * The newer token was accepted.
 *
 * @typedef {object} Authenticated
 * @property {string} expires_at
 */

/**
 * The keys of one device; keys that its suite does not use are null.
 *
 * @typedef {object} Bundle
 * @property {string} user_id
 * @property {number} device_id
 * @property {number} suite
 * @property {string} identity_key Base64.
 * @property {boolean} last_resort Whether `kyber_pre_key` or `hpke_pre_key` is the last resort.
 * @property {number | null} registration_id
 * @property {PreKey | null} pre_key null when the stock is empty.
 * @property {SignedPreKey | null} signed_pre_key
 * @property {SignedPreKey | null} kyber_pre_key
 * @property {SignedPreKey | null} hpke_pre_key
 */

/**
 * A bundle for each requested device that is in the group and has the suite, in the order of the request.
 *
 * @typedef {object} Bundles
 * @property {Array<Bundle>} bundles
 */

/**
 * The chunk is durable; others are still missing.
 *
 * @typedef {object} ChunkTaken
 * @property {string} media_id
 * @property {number} chunk_index
 * @property {number} chunks_received Number of stored chunks, including this one.
 * @property {number} total_chunks
 */

/**
 * The devices of a group to which the caller wants to send keys.
 *
 * @typedef {object} ClaimBody
 * @property {string} group_id A UUID with hyphens, in any case; answered in lower case.
 * @property {Array<WantedDevice>} devices
 */

/**
 * The upload to complete.
 *
 * @typedef {object} CompleteBody
 * @property {string} media_id A UUID with hyphens, in any case; answered in lower case.
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * The password of the account that is deleted.
 *
 * @typedef {object} DeleteAccountBody
 * @property {string} password
 */

/**
 * The member `by` deleted a message, a reply, or a thread with all that was in it.
 *
 * @typedef {object} Deleted
 * @property {string} target_id
 * @property {'message' | 'thread' | 'reply'} kind
 * @property {string} by
 */

/**
 * A device of a member.
 *
 * @typedef {object} Device
 * @property {string} user_id
 * @property {number} device_id
 * @property {string} identity_key Base64.
 * @property {number} suites
 * @property {string} seen_at When it last published keys, RFC 3339.
 */

/**
 * A page of the devices of a group's members, in the order in which they were added.
 *
 * @typedef {object} Devices
 * @property {Array<Device>} devices
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * The reason that a refused login shows.
 *
 * @typedef {object} DisableBody
 * @property {string} [reason]
 */

/**
 * The name to be shown under; null removes it.
 *
 * @typedef {object} DisplayNameBody
 * @property {string | null} display_name The name that the user chose to be shown under, of any letters; null for none. Two may share one.
 */

/**
 * The body of every response that is not 2xx (other than 101, 206 and 304).
 *
 * @typedef {object} Error
 * @property {string} error A code for programs.
 * @property {string} message A sentence for a person.
 * @property {Record<string, any>} details More for programs.
 */

/**
 * A line of an account's export.

The last line has the type `end`; an export without it was cut off.
 *
 * @typedef {object} ExportLine
 * @property {'begin' | 'account' | 'session' | 'device' | 'push_subscription' | 'group' | 'state' | 'member' | 'record' | 'thread' | 'reply' | 'annotation' | 'medium' | 'event' | 'end'} type What `data` is; readers skip types that they do not know.
 * @property {Record<string, any>} data As lists of the API have it.
 */

/**
 * A member who has downloaded a medium.
 *
 * @typedef {object} Fetched
 * @property {string} user_id
 * @property {string} username
 * @property {string} downloaded_at
 */

/**
 * A group that the caller is a member of.
 *
 * @typedef {object} Group
 * @property {string} group_id
 * @property {string} encrypted_name
 * @property {string} encrypted_group_key The group's key, as it was sent for the caller.
 * @property {number} member_count
 * @property {string | null} invite_code null once it has expired.
 * @property {string | null} invite_expires_at null once it has expired.
 * @property {boolean} invite_single_use Whether the code is valid for one join only.
 * @property {'admin' | 'founder' | 'member'} role The caller's own.
 * @property {string} joined_at
 * @property {number} last_seq Number of the group's last event.
 */

/**
 * A new group.
 *
 * @typedef {object} GroupBody
 * @property {string} encrypted_name Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {string} encrypted_group_key The group's key, for its creator.
 */

/**
 * A new group, whose first member is the caller.
 *
 * @typedef {object} GroupCreated
 * @property {string} group_id
 * @property {string} invite_code
 * @property {string} created_at
 * @property {string | null} invite_expires_at Until when the code is valid.
 */

/**
 * A group with its members.
 *
 * @typedef {object} GroupDetails
 * @property {GroupEntry} group
 * @property {Array<GroupMemberRow>} members
 */

/**
 * A page of the groups, in the order of creation.
 *
 * @typedef {object} GroupEntries
 * @property {Array<GroupEntry>} groups
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * A group without content; `orbital group list --json` prints the same. Its name is encrypted.
 *
 * @typedef {object} GroupEntry
 * @property {string} group_id
 * @property {string} creator
 * @property {string} created_at
 * @property {string | null} last_event_at
 * @property {number} last_seq
 * @property {number} members
 * @property {number} threads
 * @property {number} media
 * @property {number} media_bytes
 */

/**
 * The group that the caller is now a member of.
 *
 * @typedef {object} GroupJoined
 * @property {string} group_id
 * @property {string} encrypted_name
 * @property {number} member_count
 * @property {string} joined_at
 */

/**
 * A member of a group.
 *
 * @typedef {object} GroupMemberRow
 * @property {string} user_id
 * @property {string} username
 * @property {string} joined_at
 */

/**
 * The position of a subscribed group; `recovered` is present only if `since` was sent.
 *
 * @typedef {object} GroupState
 * @property {number} seq
 * @property {boolean} [recovered]
 */

/**
 * A page of the caller's groups, in the order of joining.
 *
 * @typedef {object} Groups
 * @property {Array<Group>} groups
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * The process answers.
 *
 * @typedef {object} Health
 * @property {string} status
 */

/**
 * The status of the server that answers.
 *
 * @typedef {object} HealthReport
 * @property {string} version
 * @property {'degraded' | 'ready'} status
 * @property {Array<string>} degraded `redis`, `disk`, `database`.
 * @property {number} connections WebSockets of this server.
 * @property {string} signups
 */

/**
 * A member's device was `added` or `removed`, or has a new `identity` key; not signed by the device.
 *
 * @typedef {object} IdentityChanged
 * @property {string} user_id
 * @property {number} device_id
 * @property {'added' | 'identity' | 'removed'} change
 * @property {string} identity_key
 */

/**
 * An operator's invitation.
 *
 * @typedef {object} InvitationBody
 * @property {string} [note] Whom it is for.
 * @property {number} [days] How long it is valid.
 */

/**
 * A new invitation. The code is shown only once; the page's address, `#invitation=` and the code make a link.
 *
 * @typedef {object} InvitationMade
 * @property {number} number
 * @property {string} note
 * @property {string} invitation
 * @property {string} expires_at
 */

/**
 * An invitation; `orbital user invitations --json` prints the same.
 *
 * @typedef {object} InvitationRow
 * @property {number} number
 * @property {string} note
 * @property {string} created_at
 * @property {string} expires_at
 * @property {string | null} used_at
 * @property {string | null} used_by null once that account is deleted.
 */

/**
 * All invitations, the oldest first.
 *
 * @typedef {object} InvitationRows
 * @property {Array<InvitationRow>} invitations
 */

/**
 * The group's new invite code; the old one is no longer valid.
 *
 * @typedef {object} InviteCode
 * @property {string} invite_code
 * @property {string} expires_at
 * @property {boolean} single_use Whether the code is valid for one join only.
 */

/**
 * A new token, and when it expires.
 *
 * @typedef {object} IssuedToken
 * @property {string} token
 * @property {string} expires_at
 */

/**
 * An invite code, and the group's key encrypted for the new member.
 *
 * @typedef {object} JoinBody
 * @property {string} invite_code 8 of A-Z and 0-9; lower case, spaces and hyphens do not matter.
 * @property {string} encrypted_group_key Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 */

/**
 * How many one-time keys of each kind a device offers.
 *
 * @typedef {object} KeyCounts
 * @property {number} pre_keys
 * @property {number} kyber_pre_keys
 * @property {number} hpke_pre_keys
 */

/**
 * An envelope with keys for devices of a group.
 *
 * @typedef {object} KeyMessageBody
 * @property {string} group_id A UUID with hyphens, in any case; answered in lower case.
 * @property {string} encrypted_envelope Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * What a device publishes: keys replace the previous ones, lists add to the stocks.
 *
 * @typedef {object} KeysBody
 * @property {string} identity_key 33 bytes, the first 0x05.
 * @property {number} suites Bit mask: 1 libsignal, 2 HPKE with X-Wing.
 * @property {number | null} [device_id] Left out: the user's device with this identity key, or the lowest free number.
 * @property {number | null} [registration_id] Suite 1 only.
 * @property {SignedPreKey | null} [signed_pre_key] 33 bytes; suite 1 only.
 * @property {SignedPreKey | null} [kyber_pre_key] 1,569 bytes, the first 0x08; suite 1's last resort.
 * @property {Array<PreKey>} [pre_keys] 33 bytes each; suite 1 only.
 * @property {Array<SignedPreKey>} [kyber_pre_keys] 1,569 bytes each; suite 1 only.
 * @property {SignedPreKey | null} [hpke_pre_key] 1,216 bytes: the last resort, which a new device and a new identity key need.
 * @property {Array<SignedPreKey>} [hpke_pre_keys] 1,216 bytes each.
 */

/**
 * A stock of one-time keys of one of the user's devices is below ten: publish new ones with `PUT /v1/keys`.
 *
 * @typedef {object} KeysLow
 * @property {number} device_id
 * @property {number} pre_keys
 * @property {number} kyber_pre_keys
 * @property {number} hpke_pre_keys
 */

/**
 * The envelope is durable; `seq` is its number in the group.
 *
 * @typedef {object} KeysPosted
 * @property {string} keys_id
 * @property {number} server_timestamp
 * @property {number} seq
 */

/**
 * The device is in the directory.
 *
 * @typedef {object} KeysStored
 * @property {number} device_id
 * @property {KeyCounts} counts
 */

/**
 * An account, with a new token for it.
 *
 * @typedef {object} LoggedIn
 * @property {string} user_id
 * @property {string} username
 * @property {Record<string, any>} public_key
 * @property {string} token
 */

/**
 * A username and its password.
 *
 * @typedef {object} LoginBody
 * @property {string} username
 * @property {string} password
 * @property {string} [device_name] Name of the login in `GET /api/sessions`, such as the browser and the operating system; cut to 64 characters.
 */

/**
 * An active login.
 *
 * @typedef {object} LoginSession
 * @property {string} session_id
 * @property {string} name The `device_name` of the login; may be empty.
 * @property {string} created_at
 * @property {string} last_used_at To the hour.
 * @property {string} expires_at
 * @property {boolean} current Whether this is the login of the request's token.
 */

/**
 * A page of the caller's logins, most recently used first.
 *
 * @typedef {object} LoginSessions
 * @property {Array<LoginSession>} sessions
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * The message of the mailbox.
 *
 * @typedef {object} Mail
 * @property {string} encrypted_message
 */

/**
 * What a linked device sends to a new one.
 *
 * @typedef {object} MailBody
 * @property {string} encrypted_message Base64 of 1 to 65,536 bytes.
 */

/**
 * A mailbox for linking a device; its name is the only credential.
 *
 * @typedef {object} Mailbox
 * @property {string} mailbox
 * @property {string} expires_at
 */

/**
 * The medium is complete.
 *
 * @typedef {object} MediaCompleted
 * @property {string} media_id
 * @property {string} status
 * @property {number} size_bytes
 * @property {string} expires_at
 */

/**
 * The server has deleted the bytes; a member who has not downloaded them can ask another member.
 *
 * @typedef {object} MediaExpired
 * @property {string} media_id
 * @property {string} thread_id
 * @property {string} expired_at
 */

/**
 * The chunk completed the medium.
 *
 * @typedef {object} MediaStored
 * @property {string} media_id
 * @property {number} size_bytes
 * @property {string} uploaded_at
 * @property {string} expires_at
 */

/**
 * A photo or video is complete, and available until `expires_at`.
 *
 * @typedef {object} MediaUploaded
 * @property {string} media_id
 * @property {string} thread_id
 * @property {string} author_id
 * @property {string} encrypted_metadata
 * @property {number} size_bytes
 * @property {string} expires_at
 */

/**
 * A complete medium.
 *
 * @typedef {object} Medium
 * @property {string} media_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_metadata
 * @property {number} size_bytes
 * @property {string} uploaded_at
 * @property {string} expires_at
 * @property {number} seq The number of its event in the group.
 */

/**
 * A medium that is or was complete, and who has downloaded it.
 *
 * @typedef {object} MediumInfo
 * @property {string} media_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_metadata
 * @property {number} size_bytes
 * @property {string} uploaded_at
 * @property {string} expires_at
 * @property {number} seq The number of its event in the group.
 * @property {string} thread_id
 * @property {string} group_id
 * @property {string} encryption_iv
 * @property {'complete' | 'expired'} status `complete`, or `expired` once the server has deleted it.
 * @property {Array<Fetched>} downloaded_by The first 500 members who reported a download, in that order.
 * @property {number} downloaded_count How many members reported a download.
 */

/**
 * A member of a group.
 *
 * @typedef {object} Member
 * @property {string} user_id
 * @property {string} username
 * @property {Record<string, any>} public_key
 * @property {string} joined_at
 * @property {'admin' | 'founder' | 'member'} role
 * @property {string | null} display_name The name that the user chose to be shown under, of any letters; null for none. Two may share one.
 */

/**
 * A user joined the group; event number 1 of a group is its creator's.
 *
 * @typedef {object} MemberJoined
 * @property {string} group_id
 * @property {string} user_id
 * @property {string} username
 * @property {string} joined_at
 */

/**
 * A user left the group; `reason` is `left` or `removed`.
 *
 * @typedef {object} MemberLeft
 * @property {string} group_id
 * @property {string} user_id
 * @property {string} username
 * @property {string} left_at
 * @property {'left' | 'removed'} reason
 */

/**
 * The state that the caller's devices share about a group.
 *
 * @typedef {object} MemberState
 * @property {string} group_id
 * @property {string | null} encrypted_state null before the first was stored.
 * @property {string | null} changed_at When it was stored; null before that.
 */

/**
 * What the caller's devices share about a group, such as how far it was read.
 *
 * @typedef {object} MemberStateBody
 * @property {string} encrypted_state Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 */

/**
 * A page of the members of a group, in the order of joining.
 *
 * @typedef {object} Members
 * @property {Array<Member>} members
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * A message, with the sequence number of its event.
 *
 * @typedef {object} Message
 * @property {string} message_id
 * @property {string} conversation_id
 * @property {string} encrypted_envelope
 * @property {number} server_timestamp
 * @property {string} sender_id
 * @property {number} seq
 */

/**
 * An envelope for a group.
 *
 * @typedef {object} MessageBody
 * @property {string} conversation_id The group.
 * @property {string} encrypted_envelope Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {number} timestamp The sender's clock, in milliseconds since 1970-01-01 UTC.
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * The message is durable; `seq` is its number in the group.
 *
 * @typedef {object} MessagePosted
 * @property {string} message_id
 * @property {number} server_timestamp
 * @property {number} seq
 */

/**
 * Messages, oldest first; a page never ends between two with the same `server_timestamp`.
 *
 * @typedef {object} Messages
 * @property {Array<Message>} messages
 * @property {boolean} has_more
 */

/**
 * What the device gets no push messages for.
 *
 * @typedef {object} Mute
 * @property {Array<string>} [groups]
 * @property {Array<string>} [threads]
 * @property {Quiet | null} [quiet]
 */

/**
 * A thread, a reply or a medium in it was annotated; what that means is inside the ciphertext.
 *
 * @typedef {object} NewAnnotation
 * @property {string} annotation_id
 * @property {string} thread_id
 * @property {string} target_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_body
 * @property {string} created_at
 */

/**
 * An envelope with keys for devices of the group was posted.
 *
 * @typedef {object} NewKeys
 * @property {string} keys_id
 * @property {string} group_id
 * @property {string} sender_id
 * @property {string} encrypted_envelope
 */

/**
 * A Signal Protocol envelope was posted.
 *
 * @typedef {object} NewMessage
 * @property {string} message_id
 * @property {string} conversation_id
 * @property {string} encrypted_envelope
 * @property {number} server_timestamp
 * @property {string} sender_id
 */

/**
 * A signed record of the group's roster was posted.
 *
 * @typedef {object} NewRecord
 * @property {string} record_id
 * @property {string} group_id
 * @property {string} author_id
 * @property {string} record
 * @property {string} created_at
 */

/**
 * A reply was written in a thread; `message_id` is present if its author sent one.
 *
 * @typedef {object} NewReply
 * @property {string} reply_id
 * @property {string} thread_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_body
 * @property {string} created_at
 * @property {string | null} [message_id]
 */

/**
 * A thread was opened; `root_message_id` is present if its author sent one.
 *
 * @typedef {object} NewThread
 * @property {string} thread_id
 * @property {string} group_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_title
 * @property {string} encrypted_body
 * @property {string} created_at
 * @property {string | null} [root_message_id]
 */

/**
 * A one-time code with which a user can set a new password; it is shown only once.
 *
 * @typedef {object} OneTimeCode
 * @property {string} code
 * @property {string} expires_at
 */

/**
 * A user who is subscribed to a group.
 *
 * @typedef {object} Online
 * @property {string} user_id
 * @property {string} username The name in the user's token.
 * @property {number} connections
 * @property {string} since When the oldest connection subscribed, RFC 3339.
 */

/**
 * The caller's account.
 *
 * @typedef {object} OwnAccount
 * @property {string} user_id
 * @property {string} username
 * @property {boolean} admin Whether the user is a server administrator.
 * @property {boolean} has_password false for a user of an outside identity provider.
 * @property {string | null} display_name The name that the user chose to be shown under, of any letters; null for none. Two may share one.
 */

/**
 * The caller's devices.
 *
 * @typedef {object} OwnDevices
 * @property {Array<OwnKeys>} devices
 */

/**
 * A device of the caller, and how many one-time keys of each kind it offers.
 *
 * @typedef {object} OwnKeys
 * @property {number} pre_keys
 * @property {number} kyber_pre_keys
 * @property {number} hpke_pre_keys
 * @property {number} device_id
 */

/**
 * The current password and the new one.
 *
 * @typedef {object} PasswordBody
 * @property {string} old_password
 * @property {string} new_password At least 12 characters, among them an upper-case letter, a lower-case letter and a digit.
 */

/**
 * Asks for a `pong`.
 *
 * @typedef {object} Ping
 * @property {number} server_time
 */

/**
 * A public key without a signature.
 *
 * @typedef {object} PreKey
 * @property {number} id The device's number for the key.
 * @property {string} key Base64.
 */

/**
 * A page of the users who are subscribed to a group now, on all servers, in the order of subscription.
 *
 * @typedef {object} Presence
 * @property {Array<Online>} online
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * The public key of this server (RFC 8292).
 *
 * @typedef {object} PushKey
 * @property {string} public_key A point of P-256, uncompressed, in base64url: the browser's `applicationServerKey`.
 */

/**
 * The keys of a browser's subscription, as `PushSubscription.toJSON()` writes them.
 *
 * @typedef {object} PushKeys
 * @property {string} p256dh Base64url of 65 bytes: a point of P-256, uncompressed.
 * @property {string} auth Base64url of 16 bytes.
 */

/**
 * Where a device receives push messages.
 *
 * @typedef {object} PushSubscriptionBody
 * @property {string} endpoint The address at the push service, https.
 * @property {PushKeys} keys
 * @property {number | null} [device_id] The device of `/v1/keys`; removing it deletes the subscription.
 * @property {Mute} [mute]
 */

/**
 * The subscription is stored.
 *
 * @typedef {object} PushSubscriptionStored
 * @property {string} subscription_id
 */

/**
 * Hours of each day without push messages; messages are held until the hours end.
 *
 * @typedef {object} Quiet
 * @property {string} start `HH:MM`.
 * @property {string} end `HH:MM`.
 * @property {string} time_zone The IANA name of the zone.
 */

/**
 * How much of its quota for media a group uses; uploads in progress count with what they have reserved.
 *
 * @typedef {object} Quota
 * @property {string} group_id
 * @property {number} total_bytes
 * @property {number} max_bytes
 * @property {number} media_count
 * @property {number} max_media_count
 * @property {number} usage_percent Of the bytes.
 * @property {number} warning_threshold In percent.
 * @property {boolean} is_warning Whether bytes or number of media reached the threshold.
 * @property {boolean} is_full
 */

/**
 * Posts are stored. `degraded` lists unreachable or full parts (`redis`, `disk`); empty if `status` is `ready`.
 *
 * @typedef {object} Readiness
 * @property {string} status
 * @property {Array<string>} degraded
 */

/**
 * The time from the head of a request to the end of its body, as the server received them.
 *
 * @typedef {object} ReceivedBody
 * @property {number} milliseconds
 */

/**
 * A signed record of a group's roster.
 *
 * @typedef {object} RecordBody
 * @property {string} record Base64 of 1 to 4,096 bytes.
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * The record is durable; `seq` is its number in the group, and the group's epoch.
 *
 * @typedef {object} RecordCreated
 * @property {string} record_id
 * @property {string} group_id
 * @property {string} created_at
 * @property {number} seq
 */

/**
 * A page of a thread's replies, oldest first.
 *
 * @typedef {object} Replies
 * @property {Array<ThreadReply>} replies
 * @property {number} total_count
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * A reply in a thread.
 *
 * @typedef {object} ReplyBody
 * @property {string} encrypted_body Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {string | null} [message_id]
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * The reply is durable; `seq` is its number in the group.
 *
 * @typedef {object} ReplyCreated
 * @property {string} reply_id
 * @property {string} thread_id
 * @property {string} created_at
 * @property {number} seq
 */

/**
 * A one-time code from the operator, and the new password.
 *
 * @typedef {object} ResetBody
 * @property {string} code Case, spaces and hyphens do not matter.
 * @property {string} new_password At least 12 characters, among them an upper-case letter, a lower-case letter and a digit.
 */

/**
 * A member's new role.
 *
 * @typedef {object} RoleBody
 * @property {'admin' | 'member'} role
 */

/**
 * The founder `by` gave a member the role `admin` or `member`.
 *
 * @typedef {object} RoleChanged
 * @property {string} group_id
 * @property {string} user_id
 * @property {string} username
 * @property {'admin' | 'member'} role
 * @property {string} by
 * @property {string} changed_at
 */

/**
 * A member's role in a group.
 *
 * @typedef {object} RoleSet
 * @property {string} group_id
 * @property {string} user_id
 * @property {'admin' | 'member'} role
 */

/**
 * A record of a group's roster.
 *
 * @typedef {object} RosterRecord
 * @property {string} record_id
 * @property {string} group_id
 * @property {string} author_id
 * @property {string} record Base64.
 * @property {string} created_at
 * @property {number} seq
 */

/**
 * A page of the records of a group, in the order of the log.
 *
 * @typedef {object} RosterRecords
 * @property {Array<RosterRecord>} records
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * What a device has received, and whether somebody is looking at it.
 *
 * @typedef {object} SeenBody
 * @property {boolean} looking Whether the page is visible: no push messages for 90 s, or until the next report.
 * @property {Record<string, any>} [seqs] For each group, the number of the last event that was received.
 */

/**
 * The client address that rate limits use; whether `X-Forwarded-For` was sent, and by a trusted proxy.
 *
 * @typedef {object} SeenClient
 * @property {string} address
 * @property {boolean} forwarded
 * @property {boolean} trusted
 */

/**
 * The role of a user on this server.
 *
 * @typedef {object} ServerRoleBody
 * @property {'admin' | 'user'} role `admin` is a server administrator.
 */

/**
 * A public key with a signature by the device's identity key, which the server does not verify.
 *
 * @typedef {object} SignedPreKey
 * @property {number} id The device's number for the key.
 * @property {string} key Base64.
 * @property {string} signature Base64.
 */

/**
 * A new account, with a token for it.
 *
 * @typedef {object} SignedUp
 * @property {string} user_id
 * @property {string} username
 * @property {string} token
 */

/**
 * A new account.
 *
 * @typedef {object} SignupBody
 * @property {string} username 3-50 of A-Z, a-z, 0-9 and _; unique without regard to case.
 * @property {string} password At least 12 characters, among them an upper-case letter, a lower-case letter and a digit.
 * @property {Record<string, any>} public_key Any JSON object, such as a JWK, of up to 16 KiB; members of the user's groups receive it unchanged.
 * @property {string | null} [invitation] An operator's invitation, or the invite code of a group; required if `GET /api/about` returns `invited`. Case, spaces and hyphens do not matter.
 * @property {string} [device_name] Name of the login in `GET /api/sessions`, such as the browser and the operating system; cut to 64 characters.
 */

/**
 * Another device of the user stored a new state for the group: read it with `GET /api/groups/{group_id}/state`.
 *
 * @typedef {object} StateChanged
 * @property {string} group_id
 */

/**
 * What is stored, and how much room is left.
 *
 * @typedef {object} StorageReport
 * @property {number} media
 * @property {number} media_bytes
 * @property {number} unfinished Uploads in progress.
 * @property {number} unfinished_bytes
 * @property {number | null} media_total_bytes Most bytes of all media; null: no limit.
 * @property {number} disk_free_bytes
 * @property {number} disk_reserve_bytes Free bytes below which media are refused.
 */

/**
 * The answer to `subscribe`.
 *
 * @typedef {object} Subscribed
 * @property {Array<string>} group_ids
 * @property {string} subscribed_at
 * @property {Record<string, any>} groups
 */

/**
 * A thread.
 *
 * @typedef {object} Thread
 * @property {string} thread_id
 * @property {string} group_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_title
 * @property {string} encrypted_body
 * @property {string | null} root_message_id The message id that its author sent.
 * @property {number} reply_count
 * @property {number} media_count
 * @property {string} created_at
 * @property {string} last_activity_at When its newest reply or medium was posted, or the thread itself.
 * @property {number} last_seq The number of that event in the group.
 * @property {string} last_author_id The user who posted it.
 * @property {string} last_author_username
 * @property {string | null} last_encrypted_body The body of it when it is a reply; null for a medium or the thread itself.
 */

/**
 * A new thread.
 *
 * @typedef {object} ThreadBody
 * @property {string} group_id A UUID with hyphens, in any case; answered in lower case.
 * @property {string} encrypted_title Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {string} encrypted_body Base64 (standard or URL-safe alphabet, padding optional, not empty) of bytes that are opaque to the server.
 * @property {string | null} [root_message_id]
 * @property {number | null} [if_epoch] The epoch for which the content was encrypted: the number of the group's last `member_joined`, `member_left`, `identity_changed` or `new_record`. 409 `EPOCH_CHANGED` when the group's is higher.
 */

/**
 * The thread is durable; `seq` is its number in the group.
 *
 * @typedef {object} ThreadCreated
 * @property {string} thread_id
 * @property {string} group_id
 * @property {string} created_at
 * @property {number} seq
 */

/**
 * A page of the complete media of a thread, in the order of completion.
 *
 * @typedef {object} ThreadMedia
 * @property {Array<Medium>} media
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * A reply.
 *
 * @typedef {object} ThreadReply
 * @property {string} reply_id
 * @property {string} thread_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_body
 * @property {string | null} message_id The message id that its author sent.
 * @property {number} media_count
 * @property {string} created_at
 * @property {number} seq The number of its event in the group.
 */

/**
 * A thread with its first 100 media.
 *
 * @typedef {object} ThreadWithMedia
 * @property {string} thread_id
 * @property {string} group_id
 * @property {string} author_id
 * @property {string} author_username
 * @property {string} encrypted_title
 * @property {string} encrypted_body
 * @property {string | null} root_message_id The message id that its author sent.
 * @property {number} reply_count
 * @property {number} media_count
 * @property {string} created_at
 * @property {string} last_activity_at When its newest reply or medium was posted, or the thread itself.
 * @property {number} last_seq The number of that event in the group.
 * @property {string} last_author_id The user who posted it.
 * @property {string} last_author_username
 * @property {string | null} last_encrypted_body The body of it when it is a reply; null for a medium or the thread itself.
 * @property {Array<Medium>} media
 * @property {boolean} media_has_more Whether the thread has more media than are listed here.
 */

/**
 * A page of a group's threads.
 *
 * @typedef {object} Threads
 * @property {Array<Thread>} threads
 * @property {number} total_count
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * The token expires soon; send `authenticate` with a newer one to keep the connection.
 *
 * @typedef {object} TokenExpiring
 * @property {string} expires_at
 */

/**
 * A user started or stopped typing in a thread.
 *
 * @typedef {object} TypingIndicator
 * @property {string} thread_id
 * @property {string} user_id
 * @property {string} username
 * @property {boolean} is_typing
 */

/**
 * The connection is no longer subscribed to these groups: `requested`, `left` or `removed`.
 *
 * @typedef {object} Unsubscribed
 * @property {Array<string>} group_ids
 * @property {string} reason
 */

/**
 * The chunks of an upload that the server has.
 *
 * @typedef {object} UploadState
 * @property {Array<number>} chunks_received Indexes of the stored chunks, ascending.
 * @property {number} total_chunks
 */

/**
 * A user with groups, 500 at most, and logins, 500 at most.
 *
 * @typedef {object} UserDetails
 * @property {UserEntry} user
 * @property {Array<GroupEntry>} groups
 * @property {Array<LoginSession>} sessions
 */

/**
 * A page of the users, in the order of sign-up.
 *
 * @typedef {object} UserEntries
 * @property {Array<UserEntry>} users
 * @property {boolean} has_more Whether entries follow: repeat the request with `offset` plus the number of entries here.
 */

/**
 * A user without content; `orbital user list --json` prints the same.
 *
 * @typedef {object} UserEntry
 * @property {string} user_id
 * @property {string} username
 * @property {'active' | 'being erased' | 'disabled'} state
 * @property {boolean} admin Whether the user is a server administrator.
 * @property {boolean} outside Whether an outside identity provider issues the user's tokens.
 * @property {string} created_at
 * @property {string | null} last_seen_at To the hour; null for never.
 * @property {string | null} disabled_at
 * @property {string} disabled_reason
 * @property {number} sessions Logins with a token that has not expired.
 * @property {number} groups
 * @property {number} media
 * @property {number} media_bytes
 */

/**
 * A device to send keys to.
 *
 * @typedef {object} WantedDevice
 * @property {string} user_id
 * @property {number} device_id The device's number within its user.
 * @property {1 | 16} suite 1 libsignal, 16 HPKE with X-Wing.
 */

/**
 * A ticket for one WebSocket handshake within `expires_in` seconds.
 *
 * @typedef {object} WsTicket
 * @property {string} ticket
 * @property {number} expires_in
 */

export {};
