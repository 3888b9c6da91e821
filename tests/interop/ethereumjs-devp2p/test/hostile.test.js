// A peer that breaks the protocol is told why, or at least let go, and cairn serves the next one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DISCONNECT_REASON } from '@ethereumjs/devp2p'
import { Cairn, dataFolder } from '../../lib/cairn.mjs'
import { WAIT_MS, freePort, within } from '../../lib/child.mjs'
import { Code, Node, dial, encode, serve } from '../lib/peer.js'
import { atHello, connect, hello, noise, reasonOf, sendAnyCode, sendBrokenFrame, sendHello, sendUncompressed } from '../lib/hostile.js'
import { questions } from '../lib/questions.js'
import { generatedChain } from '../lib/sources.js'

const { PROTOCOL_ERROR, USELESS_PEER, INCOMPATIBLE_VERSION, INVALID_IDENTITY, UNEXPECTED_IDENTITY, TIMEOUT, SUBPROTOCOL_ERROR } = DISCONNECT_REASON
const BREACH = [PROTOCOL_ERROR, SUBPROTOCOL_ERROR]
const U64 = 2n ** 64n
const GET_NODE_DATA = 0x0d

/** What each message of a session past Status must lead to. */
const malformed = [
  ['noise where snappy should be', (s) => sendUncompressed(s, Code.GetBlockHeaders, Buffer.alloc(64, 0xff))],
  ['nothing where snappy should be', (s) => sendUncompressed(s, Code.GetBlockHeaders, [])],
  // 0xffffffff as a varint: four gigabytes that must not be allocated.
  ['a decompressed length of four gigabytes', (s) => sendUncompressed(s, Code.GetBlockHeaders, [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0xc0])],
  ['a decompressed length that is not what comes out', (s) => sendUncompressed(s, Code.GetBlockHeaders, [0x05, 0x00, 0xc0])],
  ['noise where RLP should be', (s) => s.send(Code.GetBlockHeaders, Buffer.alloc(40, 0xff))],
  ['an RLP length past the end', (s) => s.send(Code.GetBlockBodies, [0xf9, 0xff, 0xff, 0x01])],
  ['an RLP length that is not minimal', (s) => s.send(Code.GetBlockBodies, [0xf8, 0x02, 0x01, 0xc0])],
  ['bytes after the message', (s) => s.send(Code.GetBlockHeaders, Buffer.concat([encode([1, [1, 1, 0, 0]]), Buffer.from([0x00])]))],
  ['a string where a list should be', (s) => s.send(Code.GetBlockHeaders, [0x83, 1, 2, 3])],
  ['a request without its id', (s) => s.send(Code.GetBlockHeaders, encode([[1, 1, 0, 0]]))],
  ['a request for headers with a field too few', (s) => s.send(Code.GetBlockHeaders, encode([1, [1, 1, 0]]))],
  ['a request for headers with a field too many', (s) => s.send(Code.GetBlockHeaders, encode([1, [1, 1, 0, 0, 0]]))],
  ['a start that is neither a number nor a hash', (s) => s.send(Code.GetBlockHeaders, encode([1, [Buffer.alloc(31, 1), 1, 0, 0]]))],
  ['a number above 64 bits', (s) => s.send(Code.GetBlockHeaders, encode([1, [U64, 1, 0, 0]]))],
  ['a number with a leading zero', (s) => s.send(Code.GetBlockHeaders, encode([1, [Uint8Array.of(0, 1), 1, 0, 0]]))],
  ['a skip above 64 bits', (s) => s.send(Code.GetBlockHeaders, encode([1, [1, 2, U64, 0]]))],
  ['a hash of 33 bytes', (s) => s.send(Code.GetBlockBodies, encode([1, [Buffer.alloc(33, 1)]]))],
  ['a list where a hash should be', (s) => s.send(Code.GetBlockBodies, encode([1, [[1]]]))],
  ['a request for receipts with a hash of 31 bytes', (s) => s.send(Code.GetReceipts, encode([1, [Buffer.alloc(31, 1)]]))],
  ['a request for receipts in the form of eth/70', (s) => s.send(Code.GetReceipts, encode([1, 0, [Buffer.alloc(32, 1)]]))],
  ['a request for pooled transactions that names none in a list', (s) => s.send(Code.GetPooledTransactions, encode([1, Buffer.alloc(32, 1)]))],
  ['a request for state, which eth/67 took away', (s) => s.send(GET_NODE_DATA, encode([1, [Buffer.alloc(32, 1)]]))],
  ['headers that nobody asked for', (s) => s.send(Code.BlockHeaders, encode([12345, []]))],
  ['bodies that nobody asked for', (s) => s.send(Code.BlockBodies, encode([12345, []]))],
  ['receipts that nobody asked for', (s) => s.send(Code.Receipts, encode([12345, []]))],
  ['pooled transactions that nobody asked for', (s) => s.send(Code.PooledTransactions, encode([12345, []]))],
  ['a second Status', (s) => s.send(Code.Status, encode([68, 1, 1, Buffer.alloc(32), Buffer.alloc(32), [Buffer.alloc(4), 0]]))],
  ['a code that no shared capability has', (s) => sendAnyCode(s, 0x10 + 0x11, encode([]))],
  ['a frame whose MAC is wrong', (s) => sendBrokenFrame(s), [null, ...BREACH]],
]

/** Steps before Status; each gives the reason that came back, or null. */
const handshakes = [
  ['noise instead of auth', (_, enode) => raw(enode, noise(600)), [null]],
  ['a web request instead of auth', (_, enode) => raw(enode, Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.padEnd(400))), [null]],
  ['an auth that claims 64 kB', (_, enode) => raw(enode, Buffer.concat([Buffer.from([0xff, 0xff]), noise(1000)])), [null]],
  ['silence', (_, enode) => raw(enode, Buffer.alloc(0)), [null]],
  ['half an auth, then silence', (_, enode) => raw(enode, Buffer.concat([Buffer.from([0x01, 0x90, 0x04]), noise(100)])), [null]],
  ['silence after auth and ack', (chain, enode) => atHello(chain, enode, () => {}), [null, TIMEOUT]],
  ['noise instead of a frame', (chain, enode) => atHello(chain, enode, (peer) => peer._socket.write(noise(100))), [null, ...BREACH]],
  ['noise in Hello', (chain, enode) => atHello(chain, enode, (peer) => sendHello(peer, noise(100))), BREACH],
  ['Hello with a field too few', (chain, enode) => atHello(chain, enode, (peer) => sendHello(peer, encode([5, 'x', []]))), BREACH],
  ['Hello above 2 KiB', (chain, enode) => atHello(chain, enode, (peer, id) => sendHello(peer, hello(id, { client: 'x'.repeat(4000) }))), BREACH],
  ['Hello with the id of somebody else', (chain, enode) => atHello(chain, enode, (peer) => sendHello(peer, hello(noise(64)))), [INVALID_IDENTITY, UNEXPECTED_IDENTITY, ...BREACH]],
  ['Hello without a shared capability', (chain, enode) => atHello(chain, enode, (peer, id) => sendHello(peer, hello(id, { capabilities: [['les', 4], ['eth', 61]] }))), [USELESS_PEER]],
  ['Hello of a p2p version before snappy', (chain, enode) => atHello(chain, enode, (peer, id) => sendHello(peer, hello(id, { version: 4 }))), [INCOMPATIBLE_VERSION]],
  ['a Ping before Hello', (chain, enode) => atHello(chain, enode, (peer) => peer._sendMessage(0x02, encode([]))), BREACH],
]

async function raw(enode, bytes) {
  const { socket, ended } = await connect(enode)
  socket.resume()
  socket.write(bytes)
  await within(ended, 'the end of the connection')
  socket.destroy()
  return null
}

/** Sends a Status of its own making in the place of the right one. */
async function withStatus(chain, enode, change) {
  const session = await dial(chain, enode, { status: null })
  try {
    await within(session.status, 'Status')
    const fork = [Buffer.from(chain.common.forkHash(chain.common.hardfork()).slice(2), 'hex'), 0]
    session.send(Code.Status, encode(change([68, chain.networkId, chain.td, chain.head.hash, chain.genesisHash, fork])))
    return await reasonOf(session)
  } finally {
    session.node.close()
  }
}

const OTHER = Buffer.alloc(32, 0x11)
/** What a Status that does not fit leads to. */
const statuses = [
  ['another network', (s) => s.with(1, s[1] + 1n)],
  ['another genesis', (s) => s.with(4, OTHER)],
  ['a fork id that fits no fork of ours', (s) => s.with(5, [Buffer.from('deadbeef', 'hex'), 0])],
  ['another version of eth', (s) => s.with(0, 69)],
]

test('a peer that breaks the protocol', { timeout: 240_000 }, async (t) => {
  const { chain, file, genesisFile } = await generatedChain()
  const cairn = await Cairn.start(await dataFolder({ file, genesisFile }))
  t.after(() => cairn.stop())

  /** The next peer is served as if nothing had been. */
  async function stillServes() {
    assert.ok(cairn.running, `cairn is gone:\n${cairn.log.slice(-4000)}`)
    const session = await dial(chain, cairn.enode)
    try {
      const list = new Map(questions(chain))
      await list.get('headers by hash')(session)
      await list.get('bodies of known and unknown blocks together')(session)
    } finally {
      session.node.close()
    }
  }

  for (const [name, step, reasons] of handshakes) {
    await t.test(`in the handshake: ${name}`, { timeout: WAIT_MS * 3 }, async () => {
      const reason = await step(chain, cairn.enode)
      assert.ok(reasons.includes(reason), `reason ${reason}, expected one of ${reasons}`)
      await stillServes()
    })
  }

  await t.test('in the handshake: a well-made Hello and Status are taken', async () => {
    // The same way with nothing wrong: what the steps above meet is their fault, and not the way's.
    const session = await dial(chain, cairn.enode, { status: null })
    const fork = [Buffer.from(chain.common.forkHash(chain.common.hardfork()).slice(2), 'hex'), 0]
    session.send(Code.Status, encode([68, chain.networkId, chain.td, chain.head.hash, chain.genesisHash, fork]))
    await session.ping()
    assert.equal(session.gone, undefined)
    session.node.close()
  })

  for (const [name, change] of statuses) {
    await t.test(`in Status: ${name}`, { timeout: WAIT_MS * 3 }, async () => {
      const reason = await withStatus(chain, cairn.enode, change)
      assert.ok([USELESS_PEER, ...BREACH].includes(reason), `reason ${reason}`)
      await stillServes()
    })
  }

  await t.test('in Status: a request in its place', { timeout: WAIT_MS * 3 }, async () => {
    const session = await dial(chain, cairn.enode, { status: null })
    session.send(Code.GetBlockHeaders, encode([1, [1, 1, 0, 0]]))
    const reason = await reasonOf(session)
    assert.ok(BREACH.includes(reason), `reason ${reason}`)
    session.node.close()
    await stillServes()
  })

  for (const [name, send, reasons = BREACH] of malformed) {
    await t.test(`past Status: ${name}`, { timeout: WAIT_MS * 3 }, async () => {
      const session = await dial(chain, cairn.enode)
      send(session)
      const reason = await reasonOf(session)
      assert.ok(reasons.includes(reason), `reason ${reason}, expected one of ${reasons}`)
      session.node.close()
      await stillServes()
    })
  }

  await t.test('cairn ran on all the time, and stops when it is told to', async () => {
    assert.deepEqual(await cairn.stop(), { code: 0, signal: null })
    assert.doesNotMatch(cairn.log, /panicked/)
  })
})

/** What a peer serves instead of what it was asked for; `code` is that of the request. */
const lies = [
  ['a header with another nonce', (items, code) => (code === Code.GetBlockHeaders ? items.map(turnBit) : items)],
  ['headers in the wrong order', (items, code) => (code === Code.GetBlockHeaders ? items.toReversed() : items)],
  ['more headers than asked for', (items, code) => (code === Code.GetBlockHeaders ? [...items, ...items] : items)],
  ['bodies with another transaction', (items, code) => (code === Code.GetBlockBodies ? items.map(turnBit) : items)],
  ['bodies of other blocks', (items, code) => (code === Code.GetBlockBodies ? items.map(() => Uint8Array.of(0xc2, 0xc0, 0xc0)) : items)],
]

/** The last byte but one: a bit of a header's nonce, or of a body's last transaction. */
function turnBit(item) {
  return Uint8Array.from(item).with(-2, item.at(-2) ^ 1)
}

test('a peer that lies', { timeout: 240_000 }, async (t) => {
  const { chain, genesisFile } = await generatedChain()
  for (const [name, spoil] of lies) {
    await t.test(`${name}: it is dropped, and the head is reached by asking another`, { timeout: 120_000 }, async (t) => {
      const liar = new Node(chain, { onRequest: serve(chain, spoil) })
      t.after(() => liar.close())
      const cairn = await Cairn.start(await dataFolder({ genesisFile }), { bootnodes: [await liar.listen(await freePort())] })
      t.after(() => cairn.stop())
      const session = await liar.session()
      const reason = await reasonOf(session)
      assert.ok(BREACH.includes(reason), `reason ${reason}, expected one of ${BREACH}`)
      const honest = await dial(chain, cairn.enode, { onRequest: serve(chain) })
      t.after(() => honest.node.close())
      await cairn.reaches(chain.headHash)
      assert.equal(honest.gone, undefined, 'the honest peer is kept')
      assert.deepEqual(await cairn.stop(), { code: 0, signal: null })
      assert.doesNotMatch(cairn.log, /panicked/)
    })
  }
})
