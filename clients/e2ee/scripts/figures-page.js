/** Print the figures of figures.js as a page in Chromium has them; the time is the clock's, so other work on the machine is in it. */
import { servePage } from '../test/serve-page.js';
import { show } from './figures.js';

const page = await servePage();
show(await (await page.tab()).run(() => globalThis.figures()));
await page.close();
