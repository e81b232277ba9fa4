// A person with a browser: real Chromium, over the DevTools protocol.
//   browser.mjs PROFILE login URL NAME PASSWORD [OTP]         fills in whatever page the provider shows, until the end
//   browser.mjs PROFILE device URL CODE NAME PASSWORD [OTP]   the same, with a code to enter first
//   browser.mjs PROFILE logout URL                            signs out at the provider
// Prints what the last page says. The profile keeps the person's session at the provider.
import puppeteer from 'puppeteer-core';

const [profile, errand, url, ...rest] = process.argv.slice(2);
const code = errand === 'device' ? rest.shift() : undefined;
const [name, password, otp] = rest;

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  userDataDir: profile,
  headless: true,
  acceptInsecureCerts: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--no-proxy-server'],
});
const page = await browser.newPage();
page.setDefaultTimeout(60_000);

const type = async (selector, text) => {
  const field = await page.$(selector);
  if (field === null || text === undefined) return;
  await field.type(text);
};

try {
  await page.goto(url, { waitUntil: 'load' });
  if (code !== undefined) await type('input[name=user_code]', code);
  if (errand === 'logout') {
    // The page submits by a button of that name.
    await Promise.all([page.waitForNavigation(), page.click('button[name=logout]')]);
  }
  // A page with a button is a question; the first without one is the end.
  for (let steps = 0; errand !== 'logout' && steps < 8; steps++) {
    const button = await page.$('button[autofocus], button[form]:not([name=abort]), form button');
    if (button === null) break;
    await type('input[name=name]', name);
    await type('input[name=password]', password);
    await type('input[name=otp]', otp);
    await Promise.all([page.waitForNavigation(), button.click()]);
  }
  console.log(await page.evaluate(() => document.body.innerText));
} finally {
  await browser.close();
}
