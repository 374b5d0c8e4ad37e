/* mqttjs_client.js -- MQTT.js against a broker: node mqttjs_client.js PORT VERSION (3, 4 or 5).
 *
 * Prints one line for each scenario that passed; ends with status 1 and one line at the first thing that is not as
 * expected. The package is found by NODE_PATH; mqttjs.py installs it. */
'use strict'

const assert = require('assert')
const mqtt = require('mqtt')

const MESSAGES = 1000
const WAIT_MS = 20000
const [port, version] = process.argv.slice(2).map(Number)

function within (what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), WAIT_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

function once (emitter, event) {
  return within(event, new Promise(resolve => emitter.once(event, (...args) => resolve(args))))
}

/* A connected client; its messages gather in client.inbox. */
async function open (clientId, options = {}) {
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
    clientId,
    protocolVersion: version,
    protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    clean: true,
    reconnectPeriod: 0,
    ...options
  })
  client.inbox = []
  client.on('message', (topic, payload, packet) => client.inbox.push(packet))
  client.on('error', e => fail(new Error(`${clientId}: ${e.message}`)))
  const [connack] = await once(client, 'connect')
  client.connack = connack
  return client
}

/* Wait for so many messages, then a moment for any that should not come. */
async function messages (client, count) {
  const start = Date.now()
  while (client.inbox.length < count && Date.now() - start < WAIT_MS) {
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  await new Promise(resolve => setTimeout(resolve, 100))
  assert.strictEqual(client.inbox.length, count, `${client.inbox.length} messages, wanted ${count}`)
  return client.inbox.splice(0)
}

/* At most 20 at a time are not acknowledged: MQTT.js does not heed the server's Receive Maximum. */
async function publishNumbers (client, topic, count, qos) {
  let next = 0
  const worker = async () => {
    while (next < count) {
      await client.publishAsync(topic, String(next++), { qos })
    }
  }
  await within('acknowledgements', Promise.all(Array.from({ length: 20 }, worker)))
}

function expectNumbers (packets, qos) {
  packets.forEach((p, i) => {
    assert.strictEqual(p.payload.toString(), String(i))
    assert.strictEqual(p.qos, qos)
    assert.strictEqual(p.retain, false)
  })
}

async function eachWay () {
  const a = await open('a'); const b = await open('b')
  for (const qos of [0, 1, 2]) {
    await a.subscribeAsync(`to/a/${qos}`, { qos })
    await b.subscribeAsync(`to/b/${qos}`, { qos })
    const ways = [publishNumbers(a, `to/b/${qos}`, MESSAGES, qos), publishNumbers(b, `to/a/${qos}`, MESSAGES, qos)]
    await Promise.all(ways)
    expectNumbers(await messages(a, MESSAGES), qos)
    expectNumbers(await messages(b, MESSAGES), qos)
  }
  await a.endAsync()
  await b.endAsync()
}

async function retained () {
  const keeper = await open('keeper')
  await keeper.publishAsync('kept/t', 'still here', { qos: 1, retain: true })
  const late = await open('late')
  await late.subscribeAsync('kept/#', { qos: 2 })
  const [got] = await messages(late, 1)
  assert.deepStrictEqual([got.topic, got.payload.toString(), got.qos, got.retain], ['kept/t', 'still here', 1, true])
  await keeper.publishAsync('kept/t', '', { qos: 1, retain: true })
  await keeper.endAsync()
  await late.endAsync()
}

async function will () {
  const watcher = await open('watcher')
  await watcher.subscribeAsync('will/#', { qos: 2 })
  const polite = await open('polite', { will: { topic: 'will/polite', payload: 'never', qos: 1 } })
  await polite.endAsync()
  const doomed = await open('doomed', { will: { topic: 'will/doomed', payload: 'gone', qos: 2 } })
  doomed.stream.destroy()
  const [got] = await messages(watcher, 1)
  assert.deepStrictEqual([got.topic, got.payload.toString(), got.qos], ['will/doomed', 'gone', 2])
  doomed.end(true)
  await watcher.endAsync()
}

/* The client comes back by itself and finds its session with what was published meanwhile. */
async function reconnect () {
  const properties = version === 5 ? { sessionExpiryInterval: 1000 } : undefined
  const client = await open('comes-back', { clean: false, reconnectPeriod: 500, resubscribe: false, properties })
  const other = await open('other')
  await client.subscribeAsync('back/t', { qos: 1 })
  const again = once(client, 'connect')
  client.stream.destroy()
  await publishNumbers(other, 'back/t', 100, 1)
  const [connack] = await again
  assert.strictEqual(connack.sessionPresent, version !== 3)
  expectNumbers(await messages(client, 100), 1)
  await client.endAsync()
  await other.endAsync()
}

async function properties () {
  const sub = await open('prop-sub', { properties: { topicAliasMaximum: 10 } })
  const pub = await open('prop-pub', { autoAssignTopicAlias: true })
  await sub.subscribeAsync('p/t', { qos: 1, nl: true, rap: true, properties: { subscriptionIdentifier: 99 } })
  const sent = {
    contentType: 'text/plain',
    responseTopic: 'p/answer',
    correlationData: Buffer.from([0, 1]),
    messageExpiryInterval: 100,
    userProperties: { a: ['1', '2'] }
  }
  for (let i = 0; i < 3; i++) {
    await pub.publishAsync('p/t', 'x', { qos: 1, retain: true, properties: sent })
  }
  for (const got of await messages(sub, 3)) {
    assert.strictEqual(got.retain, true)
    assert.strictEqual(got.properties.contentType, 'text/plain')
    assert.strictEqual(got.properties.responseTopic, 'p/answer')
    assert.deepStrictEqual([...got.properties.correlationData], [0, 1])
    assert.deepStrictEqual({ ...got.properties.userProperties }, { a: ['1', '2'] })
    assert.strictEqual(got.properties.subscriptionIdentifier, 99)
  }
  await sub.endAsync()
  await pub.endAsync()
}

function fail (error) {
  console.log(`FAIL ${error.stack}`)
  process.exit(1)
}

async function main () {
  const scenarios = [eachWay, retained, will, reconnect].concat(version === 5 ? [properties] : [])
  for (const scenario of scenarios) {
    await scenario()
    console.log(`ok ${scenario.name}`)
  }
}

main().then(() => process.exit(0), fail)
