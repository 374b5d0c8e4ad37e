/* tern.js -- the dashboard. It asks /api/v1 of the node that gave the page, two short questions each two seconds, and
 * none while nobody looks. What clients said (ids, topics, payloads) becomes text nodes and nothing else. */

const TICK_MS = 2000
const KEPT = 300 /* points of the plots: ten minutes */
const $ = id => document.getElementById(id)

let auth = sessionStorage.getItem('tern.auth')
let role = 'viewer'
let shownClient = null
let turn = 0
let running = false
const metricsOf = new Map() /* node -> its counts */
const cpuOf = new Map() /* node -> [seconds, at, share] */
const history = { rates: [[], [], []], connections: [[], []] }

/* ---- asking ---- */

class ApiError extends Error {
  constructor (status, message) {
    super(message)
    this.status = status
  }
}

/* The login is sent here and not by the browser, so that its own window for it never comes up. */
async function ask (path, { method = 'GET', also } = {}) {
  const headers = auth ? { Authorization: auth } : {}
  const answer = await fetch('/api/v1' + path, { method, headers, credentials: 'omit', cache: 'no-store', signal: AbortSignal.timeout(10000) })
  const text = await answer.text()
  let value = null
  try {
    value = text ? JSON.parse(text) : null
  } catch {
    throw new ApiError(answer.status, 'the answer is not JSON')
  }
  if (!answer.ok && answer.status !== also) throw new ApiError(answer.status, value?.message ?? `status ${answer.status}`)
  return value
}

const part = text => encodeURIComponent(text)

/* ---- writing ---- */

/* el('td.n', 'text', child): texts become text nodes. */
function el (what, ...children) {
  const [tag, ...classes] = what.split('.')
  const e = document.createElement(tag)
  if (classes.length) e.className = classes.join(' ')
  e.append(...children.filter(c => c !== null && c !== undefined).map(c => c instanceof Node ? c : String(c)))
  return e
}

/* Put rows in the place of what is there, but only if they differ: who selects text or has the focus keeps it. */
function fill (id, rows) {
  const old = $(id)
  const fresh = el('div', ...rows)
  if (fresh.childNodes.length === old.childNodes.length && rows.every((r, i) => r.isEqualNode(old.childNodes[i]))) return
  const focused = old.contains(document.activeElement) ? document.activeElement.textContent : null
  old.replaceChildren(...rows)
  if (focused !== null) [...old.querySelectorAll('button')].find(b => b.textContent === focused)?.focus()
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

function number (n) {
  if (n === undefined || n === null) return '\u2013'
  return n >= 100000 ? short.format(n) : n > 0 && n < 10 && !Number.isInteger(n) ? n.toFixed(1) : whole.format(n)
}

function bytes (n) {
  if (n === undefined || n === null) return '\u2013'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let i = 0
  for (; n >= 1024 && i < 4; i++) n /= 1024
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`
}

function span (s) {
  if (s === undefined || s === null) return '\u2013'
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`
}

const time = text => text ? new Date(text).toLocaleString() : '\u2013'
const sum = (list, name) => list.reduce((n, one) => n + (one[name] ?? 0), 0)
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? '' : 's'}`

function press (text, action) {
  const b = el('button.link', text)
  b.type = 'button'
  b.addEventListener('click', action)
  return b
}

/* ---- the cluster ---- */

function load (node) {
  const now = performance.now() / 1000
  const before = cpuOf.get(node.node)
  if (node.cpu_seconds === undefined) return '\u2013'
  if (before && now - before[1] < 1) return before[2]
  const used = before && node.cpu_seconds >= before[0] ? `${Math.round(100 * (node.cpu_seconds - before[0]) / (now - before[1]))} %` : '\u2013'
  cpuOf.set(node.node, [node.cpu_seconds, now, used])
  return used
}

function stateOf (node, missing) {
  if (node.state === 'dead' || node.state === 'left') return el('td.bad.wide', node.state === 'dead' ? 'dead' : 'has left')
  if (missing.includes(node.node)) return el('td.bad.wide', 'does not answer')
  if (node.draining) return el('td.warn.wide', 'draining')
  if (node.state === 'suspect') return el('td.warn.wide', 'suspected to be dead')
  if (!node.ready) return el('td.warn.wide', 'not ready: ', node.not_ready_because ?? '')
  return el('td.good.wide', 'ready')
}

function linksOf (node) {
  if (!node.links) return el('td', '\u2013')
  const down = node.links.filter(l => !l.up).map(l => l.peer)
  if (!node.links.length) return el('td.quiet', 'none')
  if (!down.length) return el('td', `${node.links.length} up`)
  return el('td.bad.wide', `${node.links.length - down.length} up, down: ${down.join(', ')}`)
}

function nodeRow (node, missing) {
  const n = text => el('td.n', text)
  return el('tr', el('td.id', node.node, node.role === 'self' ? el('small', ' (this)') : null), stateOf(node, missing),
    n(number(node.connections)), n(number(node.received_per_second)), n(number(node.sent_per_second)),
    n(number(node.dropped_per_second)), n(number(node.queued_messages)), n(load(node)), n(bytes(node.memory_bytes)),
    linksOf(node), el('td', span(node.uptime_seconds)))
}

function tile (name, value) {
  return el('div', el('dt', name), el('dd', value))
}

function showNodes ({ data, meta }) {
  const ready = data.filter(n => n.ready && !meta.missing.includes(n.node)).length
  $('summary').textContent = data.length === 1 && ready === 1 ? 'One node, ready' : `${ready} of ${plural(data.length, 'node')} ready`
  document.title = `${ready}/${data.length} Tern`
  fill('nodes', data.length ? data.map(n => nodeRow(n, meta.missing)) : [el('tr', el('td.quiet', 'No node is known.'))])
  const inRate = sum(data, 'received_per_second')
  const outRate = sum(data, 'sent_per_second')
  const connections = sum(data, 'connections')
  fill('tiles', [tile('Connections', number(connections)), tile('Messages in/s', number(inRate)), tile('Messages out/s', number(outRate)),
    tile('Dropped/s', number(sum(data, 'dropped_per_second'))), tile('Queued', number(sum(data, 'queued_messages'))),
    tile('Sessions', number(sum(data, 'sessions'))), tile('Subscriptions', number(sum(data, 'subscriptions'))),
    tile('Retained', number(Math.max(0, ...data.map(n => n.retained ?? 0))))])
  const now = Date.now() / 1000
  remember('rates', now, inRate, outRate)
  remember('connections', now, connections)
  return data.filter(n => n.ready !== undefined).map(n => n.node)
}

function showAlarms ({ data }) {
  fill('alarms', data.length
    ? data.map(a => el(a.severity === 'critical' ? 'li.critical' : 'li.warning', a.message, a.node ? el('small', ` (${a.node})`) : null))
    : [el('li.good', 'None. All that is watched is as it should be.')])
}

const reason = name => name.replace(/^tern_dropped_/, '').replace(/_total$/, '').replaceAll('_', ' ')

function showDrops () {
  const counts = new Map()
  for (const metrics of metricsOf.values()) {
    for (const [name, value] of Object.entries(metrics)) {
      if (name.startsWith('tern_dropped_') && value > 0) counts.set(name, (counts.get(name) ?? 0) + value)
    }
  }
  const rows = [...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => el('tr', el('td', reason(name)), el('td.n', number(n))))
  fill('drops', rows.length ? rows : [el('tr', el('td.quiet', 'None.'))])
}

async function askDrops (names) {
  for (const known of metricsOf.keys()) if (!names.includes(known)) metricsOf.delete(known)
  if (names.length) {
    const name = names[Math.floor(turn / 3) % names.length]
    metricsOf.set(name, (await ask(`/nodes/${part(name)}`)).metrics ?? {})
  }
  showDrops()
}

async function askTop () {
  const { data } = await ask(`/clients?limit=8&order=desc&sort=${$('top-sort').value}`)
  const rows = data.map(c => el('tr', el('td.id', press(c.clientid, () => openClient(c.clientid))), el('td.n', number(c.mqueue_len)),
    el('td.n', `${number(c.inflight_cnt)} of ${number(c.inflight_max)}`), el('td.n', number(c.mqueue_dropped)),
    el('td.n', number(c.recv_msg)), el('td.n', number(c.send_msg))))
  fill('top', rows.length ? rows : [el('tr', el('td.quiet', 'No client has a session.'))])
}

/* ---- plots ---- */

function remember (name, at, ...values) {
  const data = history[name]
  const last = data[0].at(-1)
  if (last !== undefined && at - last > 5 * TICK_MS / 1000) push(data, [at - 1, ...values.map(() => null)]) /* a gap: nobody looked */
  push(data, [at, ...values])
  draw(name)
}

function push (data, point) {
  data.forEach((series, i) => {
    series.push(point[i])
    if (series.length > KEPT) series.shift()
  })
}

const plots = {}
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const SERIES = { rates: [['In', '--in'], ['Out', '--out']], connections: [['Connections', '--in']] }

function draw (name) {
  const place = $(`plot-${name}`)
  if (!window.uPlot || !place.clientWidth) return
  if (plots[name]) return plots[name].setData(history[name])
  const axis = { stroke: () => colour('--quiet'), grid: { stroke: () => colour('--line'), width: 1 }, ticks: { show: false } }
  plots[name] = new window.uPlot({
    width: place.clientWidth,
    height: 180,
    scales: { x: { range: u => [Math.min(u.data[0][0], u.data[0].at(-1) - 300), u.data[0].at(-1)] }, y: { range: (u, low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
    axes: [axis, { ...axis, size: 56, values: (u, list) => list.map(v => Number.isInteger(v) || v < 10 ? short.format(v) : '') }],
    series: [{}, ...SERIES[name].map(([label, c]) => ({ label, stroke: () => colour(c), width: 2, points: { show: false }, value: (u, v) => number(v) }))]
  }, history[name], place)
}

function resize () {
  for (const [name, plot] of Object.entries(plots)) plot.setSize({ width: $(`plot-${name}`).clientWidth, height: 180 })
}

/* ---- one client ---- */

async function find () {
  const text = $('find-text').value
  const { data, meta } = await ask(`/clients?limit=50&like_clientid=${part(text)}`)
  $('found-note').textContent = data.length ? `${meta.hasnext ? 'The first ' : ''}${plural(data.length, 'client')}${meta.hasnext ? '; say more of the id' : ''}` : 'No client of the cluster has this in its id.'
  fill('found', data.map(c => el('li', press(c.clientid, () => openClient(c.clientid)),
    el('small', ` ${c.connected ? 'connected' : 'away'}, ${c.node ?? ''}`))))
}

function openClient (id) {
  shownClient = id
  $('client-why').replaceChildren()
  $('client-facts').replaceChildren()
  $('client-subscriptions').replaceChildren()
  $('client-kick').hidden = true
  $('client-title').textContent = id
  $('client').hidden = false
  $('client').focus()
  guard(askClient)
}

async function askClient () {
  const id = shownClient
  let c
  try {
    c = await ask(`/clients/${part(id)}`)
  } catch (e) {
    if (e.status !== 404) throw e
    fill('client-why', [el('li.warning', 'The cluster does not know it (any more).')])
    $('client-kick').hidden = true
    return
  }
  if (id !== shownClient) return
  fill('client-why', c.why?.length ? c.why.map(w => el('li.warning', w)) : [el('li.good', 'Nothing holds its messages up.')])
  const fact = (name, value) => el('div', el('dt', name), el('dd', value ?? '\u2013'))
  fill('client-facts', [
    fact('State', c.connected ? `connected since ${time(c.connected_at)}` : `away since ${time(c.disconnected_at)}`),
    fact('Node and listener', `${c.node ?? '\u2013'}, ${c.listener ?? '\u2013'}`), fact('Address', c.ip_address ? `${c.ip_address} port ${c.port}` : '\u2013'),
    fact('User', c.username || '\u2013'), fact('Protocol', c.proto_ver ? `MQTT ${{ 3: '3.1', 4: '3.1.1', 5: '5.0' }[c.proto_ver] ?? c.proto_ver}` : '\u2013'),
    fact('Queue', `${number(c.mqueue_len)} messages, ${bytes(c.mqueue_bytes)}`), fact('Dropped for it', number(c.mqueue_dropped)),
    fact('Not acknowledged', `${number(c.inflight_cnt)} of ${number(c.inflight_max)}`), fact('Waits for its socket', bytes(c.outbox_bytes)),
    fact('Messages from it', number(c.recv_msg)), fact('Messages to it', number(c.send_msg)),
    fact('Last error', c.last_error ? `${c.last_error.text ?? c.last_error.reason} (${time(c.last_error.at)})` : 'none')])
  fill('client-subscriptions', c.subscriptions?.length
    ? c.subscriptions.map(s => el('li', s.share ? `$share/${s.share}/${s.topic}` : s.topic, el('small', `, QoS ${s.qos}`)))
    : [el('li.quiet', 'None.')])
  $('client-kick').hidden = role !== 'operator' || !c.connected
}

async function kick () {
  const id = $('kick-id').textContent
  $('kick').close()
  await ask(`/clients/${part(id)}${$('kick-session').checked ? '?session=delete' : ''}`, { method: 'DELETE' })
  await askClient()
}

/* ---- retained messages ---- */

function payloadText (base64) {
  const raw = Uint8Array.from(atob(base64), c => c.charCodeAt(0))
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(raw)
  } catch {
    return [...raw.subarray(0, 4096)].map(b => b.toString(16).padStart(2, '0')).join(' ') + (raw.length > 4096 ? ' \u2026' : '')
  }
}

async function showPayload (topic, place) {
  const m = await ask(`/retained/${part(topic)}`)
  place.querySelector('pre')?.remove()
  place.append(el('pre', m.payload_encoding === 'plain' ? m.payload : payloadText(m.payload)))
}

async function findRetained () {
  const { data, meta } = await ask(`/retained?limit=100&topic=${part($('retained-filter').value || '#')}`)
  $('retained-note').textContent = data.length ? `${meta.hasnext ? 'The first ' : ''}${plural(data.length, 'message')}` : 'None.'
  fill('retained', data.map(m => {
    const row = el('li')
    row.append(press(m.topic, () => guard(() => showPayload(m.topic, row))), el('small', ` ${bytes(m.payload_bytes)}, QoS ${m.qos}, ${time(m.publish_at)}`))
    return row
  }))
}

/* ---- the live view ---- */

const LINES = 200
const LIVE_SECONDS = 300
let live = null /* what ends it */

function liveRow (e) {
  return el('li', el('small', `${new Date(e.at).toLocaleTimeString()}  ${e.clientid ?? ''} on ${e.node}, QoS ${e.qos}${e.retain ? ', retained' : ''}: `),
    e.topic, el('pre', e.payload ?? `${bytes(e.payload_bytes)}, no text`))
}

function liveEvents (events, watching) {
  const rows = []
  for (const e of events) {
    if (e.event === 'begin') watching.add(e.node)
    else if (e.event === 'publish_in') rows.push(liveRow(e))
    else if (e.event === 'lost') rows.push(el('li.warn', `${plural(e.count, 'event')} came too fast to be told.`))
  }
  if (watching.size) $('live-note').textContent = `Watching on ${[...watching].join(', ')}; the last ${LINES} messages are kept.`
  $('live-list').prepend(...rows.slice(-LINES).reverse())
  while ($('live-list').childNodes.length > LINES) $('live-list').lastChild.remove()
}

async function readLive (answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  const watching = new Set()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    liveEvents(lines.filter(l => l).map(l => JSON.parse(l)), watching)
  }
}

async function watch () {
  const mine = live = new AbortController()
  $('live-go').textContent = 'Stop'
  $('live-list').replaceChildren()
  try {
    const headers = { 'Content-Type': 'application/json', ...(auth ? { Authorization: auth } : {}) }
    const body = JSON.stringify({ topic: $('live-filter').value, duration: LIVE_SECONDS, payload: 'text' })
    const answer = await fetch('/api/v1/trace', { method: 'POST', headers, body, credentials: 'omit', signal: mine.signal })
    if (!answer.ok) throw new ApiError(answer.status, (await answer.json()).message)
    await readLive(answer)
    $('live-note').textContent = 'Its time is over.'
  } catch (e) {
    if (e.status === 401) throw e
    $('live-note').textContent = mine.signal.aborted ? 'Stopped.' : e.status ? `The node says: ${e.message}` : 'The node ended it.'
  } finally {
    live = null
    $('live-go').textContent = 'Watch'
  }
}

/* ---- the pace, and who may ---- */

function trouble (text) {
  $('trouble').hidden = !text
  $('trouble').textContent = text ?? ''
}

function showLogin (text) {
  $('main').hidden = $('logout').hidden = true
  $('who').textContent = ''
  $('summary').textContent = 'You are not logged in'
  $('login-error').textContent = text
  if ($('login').hidden) {
    $('login').hidden = false
    $('login-name').focus()
  }
}

function failed (e) {
  if (e.status === 401) {
    const tried = auth
    auth = null
    sessionStorage.removeItem('tern.auth')
    showLogin(tried ? 'That name and password, or token, are not known.' : '')
  } else if (e.status) {
    trouble(`The node says: ${e.message}`)
  } else {
    $('main').classList.add('stale')
    trouble('This node does not answer. What you see is old; it is asked again each two seconds.')
  }
}

async function guard (action) {
  try {
    await action()
    return true
  } catch (e) {
    failed(e)
    return false
  }
}

async function whoAmI () {
  const status = await ask('/status', { also: 503 })
  role = status.role
  $('login').hidden = true
  $('main').hidden = false
  $('logout').hidden = !auth
  $('live-section').hidden = role !== 'operator'
  $('who').textContent = `${status.node}, version ${status.version}${status.user ? `, ${status.user}` : ''}, ${role}`
}

async function tick () {
  const first = $('main').hidden
  if (first) await whoAmI()
  const names = showNodes(await ask('/nodes'))
  const others = [async () => showAlarms(await ask('/alarms')), askTop, () => askDrops(names)]
  for (const other of first ? others : [others[turn % 3]]) await other()
  if (shownClient !== null && turn % 2) await askClient()
  turn++
  $('main').classList.remove('stale')
  trouble(null)
}

async function run () {
  if (running || document.hidden || (!$('login').hidden && !auth)) return
  running = true
  await guard(tick)
  running = false
}

$('login').addEventListener('submit', e => {
  e.preventDefault()
  const name = $('login-name').value
  const secret = $('login-secret').value
  const basic = () => btoa(String.fromCharCode(...new TextEncoder().encode(`${name}:${secret}`)))
  auth = name ? `Basic ${basic()}` : `Bearer ${secret}`
  sessionStorage.setItem('tern.auth', auth)
  $('login-secret').value = ''
  run()
})
$('logout').addEventListener('click', () => {
  auth = null
  sessionStorage.removeItem('tern.auth')
  location.reload()
})
$('find').addEventListener('submit', e => { e.preventDefault(); guard(find) })
$('retained-find').addEventListener('submit', e => { e.preventDefault(); guard(findRetained) })
$('live').addEventListener('submit', e => {
  e.preventDefault()
  if (live) live.abort()
  else guard(watch)
})
$('top-sort').addEventListener('change', () => guard(askTop))
$('client-close').addEventListener('click', () => { shownClient = null; $('client').hidden = true; $('find-text').focus() })
$('client-kick').addEventListener('click', () => {
  $('kick-id').textContent = shownClient
  $('kick-session').checked = false
  $('kick').showModal()
})
$('kick-no').addEventListener('click', () => $('kick').close())
$('kick-yes').addEventListener('click', () => guard(kick))
document.addEventListener('visibilitychange', run)
window.addEventListener('resize', resize)
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => Object.values(plots).forEach(p => p.redraw()))
setInterval(run, TICK_MS)
run()
