/** Small values in localStorage, as JSON, shared by all tabs. */

/** @typedef {Pick<globalThis.Storage, 'getItem' | 'setItem' | 'removeItem'>} Storage */

/** One value under one name. A storage that is full or damaged never throws: `full` is called, or the value counts as missing. */
export class Shelf {
  #storage;
  #full;

  /**
   * @param {Storage} storage
   * @param {string} name
   * @param {() => void} [full] Called when a value could not be stored.
   */
  constructor(storage, name, full = () => {}) {
    this.#storage = storage;
    this.name = name;
    this.#full = full;
  }

  /** @returns {any} Undefined when there is nothing that can be read. */
  read() {
    try {
      return JSON.parse(this.#storage.getItem(this.name) ?? 'null') ?? undefined;
    } catch {
      return undefined;
    }
  }

  /** @param {unknown} value @returns {boolean} Whether it is stored. */
  write(value) {
    try {
      this.#storage.setItem(this.name, JSON.stringify(value));
      return true;
    } catch {
      this.#full();
      return false;
    }
  }

  delete() {
    this.#storage.removeItem(this.name);
  }
}
