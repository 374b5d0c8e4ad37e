/* dashboard_run.js -- node dashboard_run.js CHROMIUM URL BROKER HOSTILE: looks at the dashboard as a user would, prints what passed,
 * one a line; status 1 and one line at the first thing that is not as expected. HOSTILE is a client id, a topic and a
 * payload that would be markup. With SHOTS=DIRECTORY it leaves pictures there. */
'use strict'

const assert = require('assert')
const path = require('path')
const mqtt = require('mqtt')
const { chromium } = require('playwright-core')

const [executable, url, broker, hostile] = process.argv.slice(2)
const heard = [] /* what the console says, and what the policy forbids */

const ok = what => console.log(`ok ${what}`)
const shot = (tab, name) => process.env.SHOTS && tab.screenshot({ path: path.join(process.env.SHOTS, `${name}.png`), fullPage: true })

async function login (tab, token) {
  await tab.fill('#login-secret', token)
  await tab.press('#login-secret', 'Enter')
}

async function open (tab, id) {
  await tab.fill('#find-text', id)
  await tab.press('#find-text', 'Enter')
  await tab.locator('#found button', { hasText: id }).click()
  await tab.locator('#client-facts dt').first().waitFor()
}

async function lookOn (tab) {
  await tab.goto(url)
  await tab.locator('#login').waitFor()
  await shot(tab, 'login')
  ok('login is asked for')
  await login(tab, 'nobody')
  await tab.locator('#login-error', { hasText: 'not known' }).waitFor()
  ok('a wrong token is refused')
  await login(tab, 'anna')
  await tab.locator('#nodes tr', { hasText: 'north' }).locator('td.good', { hasText: 'ready' }).waitFor()
  await tab.locator('#plot-rates canvas').waitFor()
  assert.match(await tab.textContent('#who'), /anna, viewer/)
  ok('a viewer sees the node')
}

async function findClients (tab) {
  await open(tab, 'idle')
  await tab.locator('#client-why li', { hasText: 'it has no subscription' }).waitFor()
  ok('a client is found with its reason')
  await open(tab, hostile)
  assert.equal(await tab.textContent('#client-title'), hostile)
  await tab.locator('#client-subscriptions li', { hasText: hostile }).waitFor()
  await tab.press('#retained-filter', 'Enter')
  await tab.locator('#retained button', { hasText: hostile }).click()
  await tab.locator('#retained pre', { hasText: hostile }).waitFor()
  assert.equal(await tab.locator('main img, main script').count(), 0)
  assert.match(await tab.title(), /Tern/)
  ok('hostile text is text')
  await shot(tab, 'viewer')
  assert.equal(await tab.isVisible('#client-kick'), false)
  assert.equal(await tab.isVisible('#live-section'), false)
  ok('a viewer cannot disconnect')
}

async function byKeyboard (tab) {
  await tab.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0) })
  const missed = new Set(['top-sort', 'find-text', 'retained-filter', 'client-close', 'logout'])
  for (let i = 0; i < 80 && missed.size; i++) {
    await tab.keyboard.press('Tab')
    missed.delete(await tab.evaluate(() => document.activeElement.id))
  }
  assert.deepEqual([...missed], [])
  ok('the keyboard reaches everything')
}

async function operate (tab) {
  await tab.click('#logout')
  await login(tab, 'olga')
  await open(tab, 'idle')
  await tab.click('#client-kick')
  assert.equal(await tab.textContent('#kick-id'), 'idle')
  await shot(tab, 'kick')
  await tab.click('#kick-yes')
  await tab.locator('#client-why li', { hasText: 'does not know it' }).waitFor()
  ok('an operator disconnects')
}

async function watchTopic (tab) {
  await tab.fill('#live-filter', 'attic/#')
  await tab.press('#live-filter', 'Enter')
  await tab.locator('#live-note', { hasText: 'Watching on north' }).waitFor()
  const client = await mqtt.connectAsync(broker, { clientId: 'lamp' })
  await client.publishAsync('attic/light', hostile, { qos: 1 })
  await client.endAsync()
  await tab.locator('#live-list li', { hasText: 'attic/light' }).locator('pre', { hasText: hostile }).waitFor()
  assert.equal(await tab.locator('main img, main script').count(), 0)
  await shot(tab, 'live')
  await tab.click('#live-go')
  await tab.locator('#live-note', { hasText: 'Stopped' }).waitFor()
  ok('the live view shows a message')
}

async function onPhone (tab) {
  await tab.setViewportSize({ width: 375, height: 800 })
  await shot(tab, 'phone')
  await tab.waitForFunction(() => document.documentElement.scrollWidth <= 375)
  ok('it fits a phone')
}

async function main () {
  const browser = await chromium.launch({
    executablePath: executable,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
  })
  try {
    const tab = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: process.env.SCHEME ?? 'light' })
    tab.on('pageerror', e => heard.push(e.message))
    /* A login that is refused is said by the browser itself, and so is who is looked for and has gone. */
    tab.on('console', m => /status of 40[14]/.test(m.text()) || heard.push(m.text()))
    tab.setDefaultTimeout(30000)
    for (const step of [lookOn, findClients, byKeyboard, operate, watchTopic, onPhone]) await step(tab)
    assert.deepEqual(heard, [])
    ok('the console is empty')
  } finally {
    await browser.close()
  }
}

main().catch(e => {
  console.log([e.message, ...heard].join('; '))
  process.exit(1)
})
