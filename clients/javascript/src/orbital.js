/** The address that a server gives to pages: `import {OrbitalClient} from '/sdk/orbital.js'`. */
export * from './index.js';
