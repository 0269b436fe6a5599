/** Parses a subset of markdown into plain data, without HTML (no XSS). Unknown syntax stays text. */

/** @typedef {{tag: string, props?: Record<string, string | number>, children: Parsed[]} | string} Parsed */

/** Characters that are parsed as markdown; the rest is shown as plain text, so that no member's text can block the page. */
export const MAX_LETTERS = 50_000;
/** Elements that one text may produce; the rest is shown as plain text. */
export const MAX_ELEMENTS = 2_000;
/** Nesting depth of inline marks. */
const MAX_DEPTH = 4;

/** Check a link's address; only http, https and mailto are allowed. @param {string} address @returns {string | null} */
export function safeAddress(address) {
  try {
    // Control characters and spaces could hide a scheme, as in `java\nscript:`.
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there.
    if (/[\u0000-\u0020]/.test(address)) return null;
    const { protocol, href } = new URL(address);
    return /^(https?|mailto):$/.test(protocol) ? href : null;
  } catch {
    return null;
  }
}

/** One inline element at its start. Every branch is linear, so no text makes it slow. */
const INLINE =
  /`([^`\n]{1,2000})`|\*{3}(?=\S)([^*\n]{1,2000})\*{3}|\*\*(?=\S)([^*\n]{1,2000})\*\*|~~(?=\S)([^~\n]{1,2000})~~|\*(?=\S)([^*\n]{0,1999}[^*\s])\*(?![\p{L}\p{N}])|\b_(?=\S)([^_\n]{1,2000})_\b|\[([^[\]\n]{1,500})\]\(((?:[^()\s]|\([^()\s]{0,200}\)){1,2000})\)|\bhttps?:\/\/[^\s<>"'`]{1,2000}/gu;

/** `2*3*4` is a product: a star after one of these opens no emphasis. */
const IN_WORD = /[\p{L}\p{N}]$/u;
/** An item of a list: its indentation, its number if it has one, and its text. A number of four digits is a year. */
const ITEM = /^([ \t]{0,16})(?:[-*+]|(\d{1,3})[.)]) +(.*)$/;

/** @typedef {{indent: number, number: string | undefined, text: string}} ListItem */

/** The group of a text between single stars. */
const STARRED = 5;

/** @param {string} address @returns {string} Without the punctuation of the sentence that it stands in; a bracket stays if the address opened it. */
function withoutEnd(address) {
  let end = address.length;
  let open = 0;
  for (const letter of address) open += letter === '(' ? 1 : letter === ')' ? -1 : 0;
  for (; /[.,;:!?\])]/.test(address[end - 1] ?? ''); end--) {
    if (address[end - 1] !== ')') continue;
    if (open >= 0) break;
    open++;
  }
  return address.slice(0, end);
}

/** Parses one text and counts its elements. */
class Parser {
  #left = MAX_ELEMENTS;

  /**
   * @param {string} tag
   * @param {Parsed[]} children
   * @param {Record<string, string | number>} [props]
   * @returns {Parsed}
   */
  element(tag, children, props) {
    this.#left--;
    return props ? { tag, props, children } : { tag, children };
  }

  /** @param {string} address @param {Parsed[]} children @returns {Parsed | null} */
  #link(address, children) {
    const href = safeAddress(address);
    return href ? this.element('a', children, { href, target: '_blank', rel: 'noopener noreferrer nofollow' }) : null;
  }

  /** @param {RegExpMatchArray} found @param {number} depth @returns {{node: Parsed | null, used: number}} */
  #inlineElement([whole = '', code, both, bold, struck, starred, underscored, label, address], depth) {
    const used = whole.length;
    const within = (/** @type {string} */ inner) => (depth < MAX_DEPTH ? this.inline(inner, depth + 1) : [inner]);
    if (code !== undefined) return { node: this.element('code', [code]), used };
    if (both !== undefined) return { node: this.element('strong', [this.element('em', within(both))]), used };
    if (bold !== undefined) return { node: this.element('strong', within(bold)), used };
    if (struck !== undefined) return { node: this.element('s', within(struck)), used };
    const emphasis = starred ?? underscored;
    if (emphasis !== undefined) return { node: this.element('em', within(emphasis)), used };
    if (label !== undefined) return { node: this.#link(address ?? '', [label]), used };
    const bare = withoutEnd(whole);
    return { node: this.#link(bare, [bare]), used: bare.length };
  }

  /** @param {string} text @param {number} [depth] @returns {Parsed[]} */
  inline(text, depth = 0) {
    /** @type {Parsed[]} */
    const nodes = [];
    let at = 0;
    for (const found of text.matchAll(INLINE)) {
      if (this.#left <= 0) break;
      if (found[STARRED] !== undefined && IN_WORD.test(text.slice(Math.max(0, found.index - 2), found.index))) continue;
      const { node, used } = this.#inlineElement(found, depth);
      if (!node) continue;
      if (found.index > at) nodes.push(text.slice(at, found.index));
      nodes.push(node);
      at = found.index + used;
    }
    if (at < text.length) nodes.push(text.slice(at));
    return nodes;
  }

  /** @param {string[]} lines @returns {Parsed[]} The lines, with `br` between them. */
  #broken(lines) {
    /** @type {Parsed[]} */
    const nodes = [];
    for (const [index, line] of lines.entries()) {
      if (this.#left <= 0) return [...nodes, `\n${lines.slice(index).join('\n')}`];
      if (index) nodes.push(this.element('br', []));
      nodes.push(...this.inline(line));
    }
    return nodes;
  }

  /** @param {ListItem[]} items @param {number} depth @returns {Parsed[]} Lists, and lists within their items where those are indented further. */
  #lists(items, depth) {
    /** @type {Parsed[]} */
    const lists = [];
    let at = 0;
    const next = () => /** @type {ListItem} */ (items[at]);
    while (at < items.length) {
      const { indent, number } = next();
      /** @type {Parsed[]} */
      const entries = [];
      while (at < items.length && next().indent <= indent && (next().number === undefined) === (number === undefined)) {
        if (this.#left <= 0 || depth > MAX_DEPTH) {
          entries.push(
            this.element('li', [
              items
                .slice(at)
                .map(({ text }) => text)
                .join('\n'),
            ]),
          );
          at = items.length;
          break;
        }
        const { text, indent: own } = next();
        const first = ++at;
        while (at < items.length && next().indent > own) at++;
        entries.push(this.element('li', [...this.inline(text), ...this.#lists(items.slice(first, at), depth + 1)]));
      }
      lists.push(number === undefined ? this.element('ul', entries) : this.element('ol', entries, { start: Number(number) }));
    }
    return lists;
  }

  /** @param {string} text @returns {Parsed[]} */
  blocks(text) {
    /** @type {Parsed[]} */
    const blocks = [];
    const lines = new Lines(text);
    while (!lines.done) {
      if (this.#left <= 0) return [...blocks, this.element('p', [lines.rest()])];
      const block = this.#block(lines);
      if (block) blocks.push(block);
    }
    return blocks;
  }

  /** @param {Lines} lines At least one is consumed. @returns {Parsed | null} Null for an empty line. */
  #block(lines) {
    const { line } = lines;
    if (!line.trim()) return lines.skip();
    if (line.startsWith('```')) {
      lines.skip();
      const code = lines.take(/^(?!```)(.*)$/).join('\n');
      lines.skip();
      return this.element('pre', [this.element('code', [code])], { tabindex: 0 });
    }
    if (/^#{1,6} /.test(line)) {
      lines.skip();
      return this.element('h3', this.inline(line.replace(/^#{1,6} +/, '')));
    }
    if (/^(-{3,}|\*{3,})$/.test(line.trim())) {
      lines.skip();
      return this.element('hr', []);
    }
    if (/^> ?/.test(line)) return this.element('blockquote', this.#broken(lines.take(/^> ?(.*)$/)));
    if (/^\S/.test(line) && ITEM.test(line)) {
      const items = lines.match(ITEM).map(([, indent = '', number, text = '']) => ({ indent: indent.length, number, text }));
      const lists = this.#lists(items, 0);
      return lists.length === 1 ? (lists[0] ?? null) : this.element('div', lists);
    }
    lines.skip();
    return this.element('p', this.#broken([line, ...lines.take(/^(?!\s*$|```|#{1,6} |> ?|[-*+] |\d{1,3}[.)] )(.*)$/)]));
  }
}

/** The lines of a text, read from the first to the last. */
class Lines {
  #at = 0;
  #lines;

  /** @param {string} text */
  constructor(text) {
    this.#lines = text.replace(/\r\n?/g, '\n').split('\n');
  }

  get done() {
    return this.#at >= this.#lines.length;
  }

  get line() {
    return this.#lines[this.#at] ?? '';
  }

  /** @returns {null} */
  skip() {
    this.#at++;
    return null;
  }

  /** @param {RegExp} like @returns {RegExpExecArray[]} The next lines that match. */
  match(like) {
    const matched = [];
    for (let found = like.exec(this.line); !this.done && found; found = like.exec(this.line)) {
      matched.push(found);
      this.#at++;
    }
    return matched;
  }

  /** @param {RegExp} like @returns {string[]} The next lines that match, without the matched prefix. */
  take(like) {
    return this.match(like).map(([, text = '']) => text);
  }

  rest() {
    const rest = this.#lines.slice(this.#at).join('\n');
    this.#at = this.#lines.length;
    return rest;
  }
}

/**
 * Parse a text.
 *
 * @param {string} text
 * @returns {Parsed[]}
 */
export function parse(text) {
  const parser = new Parser();
  const blocks = parser.blocks(text.slice(0, MAX_LETTERS));
  return text.length > MAX_LETTERS ? [...blocks, parser.element('p', [text.slice(MAX_LETTERS)])] : blocks;
}

/** @param {string} text @returns {string} Its first line without marks, for a list. */
export const excerpt = (text) =>
  text
    .slice(0, 400)
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/^\s*[-+*] +/gm, '• ')
    .replace(/[*_~`#>]+/g, '')
    .replace(/\s+/g, ' ')
    .trim();
