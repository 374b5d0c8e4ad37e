/* browser_run.js -- node browser_run.js CHROMIUM MQTT_JS PAGE_JS URL: drives Chromium by playwright-core, prints what passed,
 * one a line; status 1 and one line at the first thing that is not as expected. */
'use strict'

const fs = require('fs')
const http = require('http')
const { chromium } = require('playwright-core')

const [executable, library, page, url] = process.argv.slice(2)

/* The page comes from this machine: a browser does not let a page of nowhere talk to a local address. */
async function serve () {
  const server = http.createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html')
    response.end('<!doctype html><title>MQTT</title>')
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  return server
}

async function main () {
  const server = await serve()
  const browser = await chromium.launch({
    executablePath: executable,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors']
  })
  try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true })
    const tab = await context.newPage()
    tab.on('pageerror', e => console.log(`page error: ${e.message}`))
    await tab.goto(`http://127.0.0.1:${server.address().port}/`)
    await tab.addScriptTag({ content: fs.readFileSync(library, 'utf8') })
    await tab.addScriptTag({ content: fs.readFileSync(page, 'utf8') })
    for (const line of await tab.evaluate(u => window.scenario(u), url)) console.log(`ok ${line}`)
  } finally {
    await browser.close()
    server.close()
  }
}

main().catch(e => {
  console.log(e.message)
  process.exit(1)
})
