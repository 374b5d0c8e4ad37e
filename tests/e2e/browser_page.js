/* browser_page.js -- runs inside a page of Chromium with MQTT.js loaded: everything that an application in a browser does over
 * WSS. `window.scenario(url)` answers with the names of what passed, or throws. */
'use strict'

const MESSAGES = 1000
const WAIT_MS = 60000

function within (what, promise) {
  return Promise.race([promise, new Promise((resolve, reject) =>
    setTimeout(() => reject(new Error(`not in time: ${what}`)), WAIT_MS))])
}

function check (condition, what) {
  if (!condition) throw new Error(what)
}

async function open (url, clientId, options = {}) {
  const client = mqtt.connect(url, {
    clientId, protocolVersion: 5, clean: true, reconnectPeriod: 0, properties: { receiveMaximum: 100 }, ...options
  })
  client.inbox = []
  client.on('message', (topic, payload, packet) => client.inbox.push(packet))
  client.connack = await within(`CONNACK for ${clientId}`, new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
  }))
  return client
}

async function inbox (client, count) {
  await within(`${count} messages`, (async () => {
    while (client.inbox.length < count) await new Promise(resolve => setTimeout(resolve, 20))
  })())
  check(client.inbox.length === count, `${client.inbox.length} messages, wanted ${count}`)
  return client.inbox.splice(0)
}

async function publishMany (client, topic, qos) {
  let next = 0
  await Promise.all(Array.from({ length: 20 }, async () => {
    while (next < MESSAGES) await client.publishAsync(topic, String(next++), { qos })
  }))
}

function inOrder (packets) {
  const seen = new Set(packets.map(p => p.payload.toString()))
  check(seen.size === MESSAGES, `${seen.size} different messages`)
}

window.scenario = async function (url) {
  const passed = []
  const a = await open(url, 'browser-a')
  const b = await open(url, 'browser-b')
  check(a.connack.reasonCode === 0 && a.connack.properties.topicAliasMaximum > 0, 'CONNACK of MQTT 5')
  passed.push('connect')

  check((await a.subscribeAsync('to/a', { qos: 1 }))[0].qos === 1, 'granted QoS')
  await b.subscribeAsync('to/b', { qos: 2 })
  await Promise.all([publishMany(a, 'to/b', 1), publishMany(b, 'to/a', 1)])
  inOrder(await inbox(a, MESSAGES))
  inOrder(await inbox(b, MESSAGES))
  passed.push('1000 each way')

  const text = 'x'.repeat(100000)
  await a.publishAsync('to/b', text, { qos: 2, properties: { userProperties: { from: 'browser' } } })
  const [large] = await inbox(b, 1)
  check(large.qos === 2 && large.payload.length === text.length, 'QoS 2')
  check(large.properties.userProperties.from === 'browser', 'user property')
  passed.push('qos 2')

  const dying = await open(url, 'browser-dying', { will: { topic: 'to/a', payload: 'gone', qos: 1 } })
  dying.stream.end() // the page is closed: no DISCONNECT
  check((await inbox(a, 1))[0].payload.toString() === 'gone', 'will')
  passed.push('will')

  const first = await open(url, 'browser-back', { clean: false, properties: { sessionExpiryInterval: 300 } })
  await first.subscribeAsync('to/back', { qos: 1 })
  await first.endAsync()
  await a.publishAsync('to/back', 'meanwhile', { qos: 1 })
  const back = mqtt.connect(url, {
    clientId: 'browser-back', protocolVersion: 5, clean: false, reconnectPeriod: 0,
    properties: { sessionExpiryInterval: 300 }
  })
  const came = new Promise(resolve => back.on('message', (topic, payload) => resolve(payload.toString())))
  const connack = await within('reconnect', new Promise(resolve => back.once('connect', resolve)))
  check(connack.sessionPresent, 'session present')
  check(await within('what was published meanwhile', came) === 'meanwhile', 'queued message')
  passed.push('reconnect')

  const codes = []
  back.stream.socket && back.stream.socket.addEventListener('close', e => codes.push(e.code))
  await Promise.all([a.endAsync(), b.endAsync(), back.endAsync()])
  passed.push('end')
  return passed
}
