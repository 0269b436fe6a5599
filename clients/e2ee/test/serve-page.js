/** Serves test/page.js to a real Chromium, under the page's Content-Security-Policy. */
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Chromium } from '../../javascript/test/chromium.js';

const POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** @returns {Promise<{tab: () => Promise<any>, url: string, close: () => Promise<void>}>} `tab`: a new one, with the page in it. */
export async function servePage() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('page.js', import.meta.url))],
    bundle: true,
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  const server = createServer(({ url: path }, response) => {
    response.setHeader('Content-Security-Policy', POLICY);
    response.setHeader('Content-Type', path === '/page.js' ? 'text/javascript' : 'text/html');
    response.end(
      path === '/page.js' ? outputFiles[0].text : '<!doctype html><title>e2ee</title><script type="module" src="/page.js"></script>',
    );
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}/`;
  const browser = await Chromium.open();
  return {
    url,
    async tab() {
      const tab = await browser.tab();
      await tab.go(url);
      return tab;
    },
    async close() {
      await browser.close();
      server.close();
    },
  };
}
