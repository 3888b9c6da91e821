// The first message of all: cairn takes an auth in each form that is allowed and of each size, lets go of what is none, and
// sends one that this library's listener, which waits for 307 bytes, can read.
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { pk2id } from '@ethereumjs/devp2p'
import { RLP } from '@ethereumjs/rlp'
import { Cairn, dataFolder } from '../../lib/cairn.mjs'
import { WAIT_MS, within } from '../../lib/child.mjs'
import { OVERHEAD_BYTES, PLAIN_AUTH_BYTES, Raw, auth, authOf, fields, identity, linked, packed, plainAuth, secrets } from '../lib/auth.js'
import { noise } from '../lib/hostile.js'
import { dial } from '../lib/peer.js'
import { questions } from '../lib/questions.js'
import { generatedChain } from '../lib/sources.js'

/** The longest auth that cairn reads. */
const AUTH_LIMIT_BYTES = 2048
/** Dials of cairn that are looked at: each auth has padding of its own. */
const DIALS = 8

const taken = [
  ['as this library sends it', (session) => session.createAuthEIP8()],
  ['without padding, which is shorter than a plain one', (session) => auth(session, { padding: 0 })],
  ...[-1, 0, 1].map((more) => [`of ${PLAIN_AUTH_BYTES + more} bytes`, (session) => authOf(session, PLAIN_AUTH_BYTES + more)]),
  [`of ${AUTH_LIMIT_BYTES} bytes`, (session) => authOf(session, AUTH_LIMIT_BYTES)],
  ['of another version, with fields that a later one may add', (session) =>
    auth(session, { change: ([signature, id, nonce]) => [signature, id, nonce, Uint8Array.of(99), 'more', ['and', ['more']]] })],
  ['in the form before EIP-8', plainAuth, { plain: true }],
]

const turned = (at) => (session) => {
  const made = Buffer.from(auth(session))
  made[at < 0 ? made.length + at : at] ^= 1
  return made
}
const changed = (change) => (session) => auth(session, { change })

const refused = [
  ['for another node', () => auth(secrets(identity().id))],
  ['in the form before EIP-8, for another node', () => plainAuth(secrets(identity().id))],
  ['with a bit turned in the ephemeral key', turned(2 + 10)],
  ['with another kind of ephemeral key', turned(2)],
  ['with a bit turned in the initialisation vector', turned(2 + 65)],
  ['with a bit turned in the text', turned(2 + 65 + 16 + 20)],
  ['with a bit turned in the tag', turned(-1)],
  ['in the form before EIP-8, with a bit turned', (session) => {
    const made = Buffer.from(plainAuth(session))
    made[150] ^= 1
    return made
  }],
  ['that claims a byte less than it has', (session) => {
    const text = RLP.encode(fields(session))
    return packed(session, text, text.length + OVERHEAD_BYTES - 1)
  }],
  ['that claims nothing', () => Buffer.concat([Buffer.from([0, 0]), noise(400)])],
  ['that claims less than its encryption needs', () => Buffer.concat([Buffer.from([0, OVERHEAD_BYTES - 1]), noise(400)])],
  [`of ${AUTH_LIMIT_BYTES + 1} bytes`, (session) => authOf(session, AUTH_LIMIT_BYTES + 1)],
  ['with nothing in it', (session) => packed(session, Buffer.alloc(0))],
  ['with noise in it', (session) => packed(session, Buffer.alloc(200, 0xff))],
  ['with a string in it', (session) => packed(session, RLP.encode(noise(200)))],
  ['with a list in it that ends past the text', (session) => packed(session, RLP.encode(fields(session)).subarray(0, -1))],
  ['with a field too few', changed(([signature, id]) => [signature, id])],
  ['with a signature too short', changed(([signature, ...rest]) => [signature.subarray(1), ...rest])],
  ['with a signature that nobody can have made', changed(([, ...rest]) => [new Uint8Array(65), ...rest])],
  ['with a recovery id that there is not', changed(([signature, ...rest]) => [signature.with(64, 4), ...rest])],
  ['with an id that is no point of the curve', changed(([signature, , ...rest]) => [signature, new Uint8Array(64), ...rest])],
  ['with an id too short', changed(([signature, id, ...rest]) => [signature, id.subarray(1), ...rest])],
  ['with a nonce too long', changed(([signature, id, nonce, version]) => [signature, id, noise(33), version])],
  ['with a list in the place of the nonce', changed(([signature, id, , version]) => [signature, id, [noise(32)], version])],
]

test('an auth', { timeout: 240_000 }, async (t) => {
  const { chain, file, genesisFile } = await generatedChain()
  const cairn = await Cairn.start(await dataFolder({ file, genesisFile }))
  t.after(() => cairn.stop())
  const id = Uint8Array.from(Buffer.from(/[0-9a-f]{128}/.exec(cairn.enode)[0], 'hex'))

  async function stillServes() {
    assert.ok(cairn.running, `cairn is gone:\n${cairn.log.slice(-4000)}`)
    const session = await dial(chain, cairn.enode)
    await new Map(questions(chain)).get('headers by hash')(session)
    session.node.close()
  }

  for (const [name, make, form] of taken) {
    await t.test(`${name} is taken`, { timeout: WAIT_MS * 2 }, async () => {
      const session = secrets(id)
      const raw = await Raw.connect(cairn.port)
      raw.socket.write(make(session))
      assert.ok((await linked(raw, session, form)) > 64, 'Hello has an id at least')
      raw.socket.destroy()
    })
  }

  await t.test('that comes byte by byte is taken', { timeout: WAIT_MS * 2 }, async () => {
    const session = secrets(id)
    const raw = await Raw.connect(cairn.port)
    for (const byte of auth(session)) {
      raw.socket.write(Uint8Array.of(byte))
      await new Promise((done) => setImmediate(done))
    }
    await linked(raw, session)
    raw.socket.destroy()
  })

  for (const [name, make] of refused) {
    await t.test(`${name} is answered with nothing`, { timeout: WAIT_MS * 2 }, async () => {
      const raw = await Raw.connect(cairn.port)
      raw.socket.write(make(secrets(id)))
      assert.equal((await raw.end()).length, 0)
    })
  }
  await t.test('after them all the next peer is served', stillServes)

  await t.test('that is sent again by somebody else leads to nothing', { timeout: WAIT_MS * 2 }, async () => {
    const session = secrets(id)
    const first = await Raw.connect(cairn.port)
    const bytes = auth(session)
    first.socket.write(bytes)
    await linked(first, session)
    const frame = Buffer.concat([session.createBlockHeader(64), session.createBody(noise(64))])
    first.socket.destroy()
    // Whoever saw both can send both, but cairn's part of the secrets is another.
    const second = await Raw.connect(cairn.port)
    second.socket.write(Buffer.concat([bytes, frame]))
    await second.end()
    await stillServes()
  })

  await t.test('cairn stops when it is told to', async () => {
    assert.deepEqual(await cairn.stop(), { code: 0, signal: null })
    assert.doesNotMatch(cairn.log, /panicked/)
  })
})

test(`an auth of cairn's own has more than ${PLAIN_AUTH_BYTES} bytes, and this library reads it`, { timeout: 60_000 }, async (t) => {
  const { genesisFile } = await generatedChain()
  const listeners = await Promise.all(
    Array.from({ length: DIALS }, async () => {
      const { key, id } = identity()
      const server = createServer()
      const first = new Promise((done) => server.once('connection', (socket) => socket.on('error', () => {}).once('data', done)))
      await new Promise((done) => server.listen(0, '127.0.0.1', done))
      t.after(() => server.close())
      return { key, first, enode: `enode://${Buffer.from(id).toString('hex')}@127.0.0.1:${server.address().port}` }
    }),
  )
  const cairn = await Cairn.start(await dataFolder({ genesisFile }), { bootnodes: listeners.map(({ enode }) => enode) })
  t.after(() => cairn.stop())
  const sizes = new Set()
  for (const { key, first } of listeners) {
    const bytes = await within(first, 'the auth of cairn')
    assert.ok(bytes.length > PLAIN_AUTH_BYTES, `${bytes.length} bytes`)
    const session = secrets(null, key)
    session._gotEIP8Auth = true
    session.parseAuthEIP8(Uint8Array.from(bytes))
    assert.equal(Buffer.from(pk2id(session._remotePublicKey)).toString('hex'), /[0-9a-f]{128}/.exec(cairn.enode)[0])
    sizes.add(bytes.length)
  }
  assert.ok(sizes.size > 1, 'the padding is of random length')
})
