/** Requests of a server administrator: users, groups, invitations, storage, health. No answer has any content. */
import { Requests } from './requests.js';

/** @import {GroupDetails, GroupEntries, GroupEntry, HealthReport, InvitationMade, InvitationRow, OneTimeCode, StorageReport, UserDetails, UserEntries, UserEntry} from './api-types.js' */

const id = encodeURIComponent;

/**
 * The administration of a server. Every method returns the answer's body, or throws an OrbitalError: `FORBIDDEN` for a user who is not an
 * administrator. A user is named by id or by name.
 */
export class OrbitalAdminApi extends Requests {
  // Users

  /** A page of all users, in the order of their making. @param {{search?: string, limit?: number, offset?: number}} [query] `search`: a part of the name, in any case. @returns {Promise<UserEntries>} */
  users(query) {
    return this.get('/api/admin/users', 'users', query);
  }

  /** The same, one after the other, read page by page. @param {{search?: string, limit?: number, offset?: number}} [query] @returns {AsyncGenerator<UserEntry, void, undefined>} */
  eachUser(query) {
    return this.each('/api/admin/users', 'users', 'user_id', query);
  }

  /** A user with groups and sessions. @param {string} user @returns {Promise<UserDetails>} */
  user(user) {
    return this.get(`/api/admin/users/${id(user)}`, 'user');
  }

  /** Disable an account: its sessions end everywhere. @param {string} user @param {string} [reason] The user reads it at a login; up to 200 characters. @returns {Promise<void>} */
  async disableUser(user, reason = '') {
    await this.json('POST', `/api/admin/users/${id(user)}/disable`, undefined, { reason });
  }

  /** Enable an account again. @param {string} user @returns {Promise<void>} */
  async enableUser(user) {
    await this.json('POST', `/api/admin/users/${id(user)}/enable`);
  }

  /** Make a user a server administrator, or a normal user again. @param {string} user @param {'admin' | 'user'} role @returns {Promise<void>} */
  async setUserRole(user, role) {
    await this.json('PUT', `/api/admin/users/${id(user)}/role`, undefined, { role });
  }

  /** Make a one-time code with which the user sets another password; it is shown this once. @param {string} user @returns {Promise<OneTimeCode>} */
  resetPassword(user) {
    return this.json('POST', `/api/admin/users/${id(user)}/password-reset`, 'code');
  }

  /** Delete an account; it cannot be undone. @param {string} user @returns {Promise<void>} */
  async deleteUser(user) {
    await this.json('DELETE', `/api/admin/users/${id(user)}`);
  }

  // Groups

  /** A page of all groups; their names are encrypted. @param {{limit?: number, offset?: number}} [query] @returns {Promise<GroupEntries>} */
  groups(query) {
    return this.get('/api/admin/groups', 'groups', query);
  }

  /** The same, one after the other, read page by page. @param {{limit?: number, offset?: number}} [query] @returns {AsyncGenerator<GroupEntry, void, undefined>} */
  eachGroup(query) {
    return this.each('/api/admin/groups', 'groups', 'group_id', query);
  }

  /** A group with its members. @param {string} groupId @returns {Promise<GroupDetails>} */
  group(groupId) {
    return this.get(`/api/admin/groups/${id(groupId)}`, 'group');
  }

  /** Delete a group with its members, log, threads and media; it cannot be undone. @param {string} groupId @returns {Promise<void>} */
  async deleteGroup(groupId) {
    await this.json('DELETE', `/api/admin/groups/${id(groupId)}`);
  }

  // Invitations

  /** All invitations, the oldest first, with who used them. @returns {Promise<InvitationRow[]>} */
  async invitations() {
    return (await this.get('/api/admin/invitations', 'invitations')).invitations;
  }

  /**
   * Make an invitation, with which one person creates one account; its code is shown this once.
   *
   * @param {{note?: string, days?: number}} [options] `note`: whom it is for, up to 200 characters; `days`: how long it is valid, 7 when left out, up to 365.
   * @returns {Promise<InvitationMade>}
   */
  invite({ note = '', days = 7 } = {}) {
    return this.json('POST', '/api/admin/invitations', 'invitation', { note, days });
  }

  /** Revoke an unused invitation. @param {number} number @returns {Promise<void>} */
  async revokeInvitation(number) {
    await this.json('DELETE', `/api/admin/invitations/${id(number)}`);
  }

  // The server

  /** What is stored, and how much room is left. @returns {Promise<StorageReport>} */
  storage() {
    return this.get('/api/admin/storage', 'media_bytes');
  }

  /** How the server that answers is. @returns {Promise<HealthReport>} */
  health() {
    return this.get('/api/admin/health', 'status');
  }
}
