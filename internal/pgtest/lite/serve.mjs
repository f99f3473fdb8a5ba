// Serves a PostgreSQL 17 with TimescaleDB for tests, on PGlite's one backend:
//   node serve-sessions.mjs HOST:PORT|SOCKET-PATH [DATA-DIR]   (without DATA-DIR: in memory)
// Any password is right. Prints "ready" when it can be connected to; ends on
// SIGTERM, SIGINT or when its standard input closes.
//
// Connections take turns: one with a transaction or a batch of messages open
// keeps the backend until that is done. Each has its own session user, role and
// settings; temporary tables, prepared statements and advisory locks are shared.
import net from 'node:net'
import { PGlite } from '@electric-sql/pglite'
import { timescaledb } from '@electric-sql/pglite/timescaledb'

const [listen = '127.0.0.1:5432', dataDir = 'memory://'] = process.argv.slice(2)
const [, host, port] = listen.match(/^([^/]+):(\d+)$/) ?? []

const db = await PGlite.create(dataDir, { extensions: { timescaledb } })
// Nothing is preloaded; without ALTER DATABASE a GRANT ON DATABASE fails with
// "tuple concurrently deleted".
await db.exec(`LOAD 'timescaledb';
  CREATE EXTENSION IF NOT EXISTS timescaledb;
  ALTER DATABASE template1 CONNECTION LIMIT -1`)

const message = (type, ...strings) => {
  const body = Buffer.from(strings.map((s) => s + '\0').join(''))
  const head = Buffer.from(type + '\0\0\0\0')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}
const fatal = (code, text) => message('E', 'SFATAL', 'VFATAL', 'C' + code, 'M' + text, '')
const idle = Buffer.from('Z\0\0\0\x05I')
const greeting = Buffer.concat([
  Buffer.from('R\0\0\0\x08\0\0\0\0'),
  ...Object.entries({
    server_version: '17.5', server_encoding: 'UTF8', client_encoding: 'UTF8',
    standard_conforming_strings: 'on', integer_datetimes: 'on', DateStyle: 'ISO, MDY', TimeZone: 'UTC',
  }).map((pair) => message('S', ...pair)),
  Buffer.from('K\0\0\0\x0c\0\0\0\0\0\0\0\0'),
  idle,
])

const clients = new Set() // in the order in which they wait for the backend
let current = null // the client whose session the backend is in
let owner = null // the client that must not be interrupted
let pumping = false

async function pump() {
  if (pumping) return
  pumping = true
  try {
    for (let c; (c = [...clients].find((c) => (!owner || c === owner) && c.peek())); ) {
      clients.delete(c)
      clients.add(c) // to the end of the line
      try {
        await enter(c)
      } catch (err) {
        c.socket.end(fatal(err.code ?? '08000', err.message))
        clients.delete(c)
        continue
      }
      if (clients.has(c)) c.serve(c.take()) // unless closed meanwhile
    }
  } catch (err) {
    console.error(err) // the WebAssembly instance is broken for good
    process.exit(1)
  }
  pumping = false
}

// enter puts the backend into the session of c.
async function enter(c) {
  if (current === c) return
  if (current) {
    const { rows } = await db.query(`SELECT json_object_agg(name, setting) AS settings,
      session_user::text AS user, pg_catalog.current_setting('role') AS role
      FROM pg_catalog.pg_settings WHERE source = 'session' GROUP BY 2`)
    current.session = rows[0]
  }
  current = null
  const { settings, user, role } = c.session
  await db.exec('SET SESSION AUTHORIZATION postgres; RESET ALL')
  for (const pair of Object.entries(settings)) await db.query('SELECT pg_catalog.set_config($1, $2, false)', pair)
  await db.query("SELECT pg_catalog.set_config('session_authorization', $1, false)", [user])
  await db.query("SELECT pg_catalog.set_config('role', $1, false)", [role])
  current = c
}

class Client {
  input = Buffer.alloc(0)
  session = null // set by the startup message
  copy = [] // a COPY … FROM STDIN is run when all of it is here: the backend cannot wait for data

  constructor(socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('data', (data) => {
      this.input = Buffer.concat([this.input, data])
      if (!this.session) this.startup()
      if (this.session) pump()
    })
    socket.on('error', () => {})
    socket.on('close', () => this.close())
  }

  startup() {
    while (this.input.length >= 8 && this.input.length >= this.input.readInt32BE(0)) {
      const code = this.input.readInt32BE(4)
      const body = this.input.subarray(8, this.input.readInt32BE(0))
      this.input = this.input.subarray(body.length + 8)
      if (code === 80877103 || code === 80877104) this.socket.write('N') // no TLS, no GSS
      else if (code >> 16 !== 3) return this.socket.end() // a cancel request
      else {
        const words = body.toString().split('\0')
        const settings = { search_path: '"$user", public', client_min_messages: 'notice', enable_seqscan: 'on', timezone: 'UTC' }
        for (let i = 0; words[i]; i += 2) settings[words[i]] = words[i + 1]
        const { user, database, options, ...rest } = settings
        this.session = { user, role: 'none', settings: rest }
        this.greet = true
        clients.add(this)
        return
      }
    }
  }

  peek() {
    return this.greet || (this.input.length >= 5 && this.input.length > this.input.readInt32BE(1))
  }

  take() {
    if (this.greet) return null
    const length = 1 + this.input.readInt32BE(1)
    const m = this.input.subarray(0, length)
    this.input = this.input.subarray(length)
    return m
  }

  serve(m) {
    if (!m) {
      this.greet = false
      return this.socket.write(greeting)
    }
    const type = String.fromCharCode(m[0])
    if (type === 'X') return this.socket.end()
    if (type === 'Q' && /^\s*copy\s.*\sfrom\s+stdin\b/is.test(m.subarray(5))) {
      this.copy = [m]
      this.socket.write('G\0\0\0\x07\0\0\0') // libpq waits for this; pgx does not
    } else if (this.copy.length) this.copy.push(m)
    owner = this
    if (this.copy.length && type !== 'c' && type !== 'f') return
    let reply = Buffer.from(db.execProtocolRawSync(this.copy.length ? Buffer.concat(this.copy) : m))
    if (this.copy.length && reply[0] === 0x47) reply = reply.subarray(1 + reply.readInt32BE(1))
    this.copy = []
    this.socket.write(reply)
    if (reply.subarray(-6).equals(idle)) owner = null
  }

  close() {
    clients.delete(this)
    if (owner === this) {
      db.execProtocolRawSync(message('S'))
      db.execProtocolRawSync(message('Q', 'ROLLBACK'))
      owner = null
    }
    if (current === this) current = null
    pump()
  }
}

const server = net.createServer((socket) => new Client(socket))
server.on('error', (err) => {
  console.error(err)
  process.exit(1)
})
server.listen(host ? { host, port: Number(port) } : { path: listen }, () => console.log('ready'))

let stopping = false
async function stop() {
  if (stopping) return
  stopping = true
  setTimeout(() => process.exit(1), 5000).unref()
  server.close()
  for (const c of clients) c.socket.destroy()
  await db.close()
  process.exit(0)
}
process.on('SIGTERM', stop).on('SIGINT', stop)
process.stdin.on('end', stop).on('close', stop).resume()
