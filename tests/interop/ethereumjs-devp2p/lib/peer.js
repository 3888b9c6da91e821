// A peer on @ethereumjs/devp2p: dials, listens, asks, serves a chain, and misbehaves when told to.
import { once } from 'node:events'
import { ETH, RLPx, genPrivateKey } from '@ethereumjs/devp2p'
import { RLP } from '@ethereumjs/rlp'
import { bigIntToUnpaddedBytes, bytesToHex } from '@ethereumjs/util'
import snappy from 'snappyjs'
import { WAIT_MS, within } from '../../lib/child.mjs'
import * as rlp from '../../lib/rlp.mjs'
import { MAX_ITEMS, SOFT_LIMIT_BYTES } from './chain.js'

/** eth message codes, without the offset that the capabilities add. */
export const Code = {
  Status: 0x00,
  NewBlockHashes: 0x01,
  Transactions: 0x02,
  GetBlockHeaders: 0x03,
  BlockHeaders: 0x04,
  GetBlockBodies: 0x05,
  BlockBodies: 0x06,
  NewBlock: 0x07,
  NewPooledTransactionHashes: 0x08,
  GetPooledTransactions: 0x09,
  PooledTransactions: 0x0a,
  GetReceipts: 0x0f,
  Receipts: 0x10,
}
const answerTo = {
  [Code.GetBlockHeaders]: Code.BlockHeaders,
  [Code.GetBlockBodies]: Code.BlockBodies,
  [Code.GetPooledTransactions]: Code.PooledTransactions,
  [Code.GetReceipts]: Code.Receipts,
}

/** The library's eth protocol, which also hands on each message's bytes as they came out of snappy. */
class RawEth extends ETH {
  static eth68raw = { name: 'eth', version: 68, length: 17, constructor: RawEth }

  constructor(...args) {
    super(...args)
    this.early = [] // what came before a session took over
    this.onRaw = (code, bytes) => this.early.push([code, bytes])
  }

  // The library's own, made for its debug log but always called, throws on a network id above 53 bits.
  _getStatusString() {
    return ''
  }

  _handleMessage(code, bytes) {
    super._handleMessage(code, bytes) // the library must be able to read it too
    this.onRaw(code, bytes)
  }
}

/** One connection past Hello. */
export class Session {
  #waiting = new Map() // request id -> { code, resolve, reject }
  #nextId = 1n

  constructor(peer, node, onRequest = null) {
    this.peer = peer
    this.node = node
    this.eth = peer.getProtocols()[0]
    this.hello = peer.getHelloMessage()
    this.pings = 0 // that came
    const handlePing = peer._handlePing
    peer._handlePing = () => {
      this.pings++
      handlePing.call(peer)
    }
    this.unasked = [] // [code, bytes] of all that is neither Status nor an answer of ours
    this.onRequest = onRequest // serves the other side's requests
    this.served = 0 // requests
    this.closed = new Promise((resolve) => {
      this.peer.events.once('close', (reason, byUs) => {
        this.gone = { reason, byUs: byUs === true, said: byUs === false }
        clearTimeout(this.eth._statusTimeoutId) // the library lets it run on
        const error = new Error(`the session is closed: ${JSON.stringify(this.gone)}`)
        for (const { reject } of this.#waiting.values()) reject(error)
        this.#waiting.clear()
        resolve(this.gone)
      })
    })
    this.status = new Promise((resolve) => {
      this.#onStatus = resolve
    })
    const early = this.eth.early
    this.eth.onRaw = (code, bytes) => this.#take(code, bytes)
    for (const [code, bytes] of early) this.#take(code, bytes)
  }

  #onStatus

  #take(code, bytes) {
    if (code === Code.Status) return this.#onStatus(rlp.items(bytes))
    const asked = this.onRequest !== null && answerTo[code] !== undefined
    if (asked) {
      this.served++
      return this.onRequest(this, code, bytes)
    }
    if (Object.values(answerTo).includes(code)) {
      const id = rlp.number(rlp.items(bytes)[0])
      const waiting = this.#waiting.get(id)
      if (waiting !== undefined && waiting.code === code) {
        this.#waiting.delete(id)
        return waiting.resolve(bytes)
      }
    }
    this.unasked.push([code, bytes])
  }

  sendStatus(chain, { head = chain.head.hash, td = chain.td } = {}) {
    this.eth.sendStatus({ td: bigIntToUnpaddedBytes(td), bestHash: head, genesisHash: chain.genesisHash })
  }

  /** Sends a message that is RLP already. */
  send(code, encoded) {
    this.eth._send(code, snappy.compress(Uint8Array.from(encoded)))
  }

  /** Asks and gives the items of the answer, each as the bytes that came. */
  async request(code, query, id = this.#nextId++) {
    if (this.gone !== undefined) throw new Error(`the session is closed: ${JSON.stringify(this.gone)}`)
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { code: answerTo[code], resolve, reject })
    })
    this.eth.sendMessage(code, [id, query]) // encoded by the library
    const bytes = await within(answer, `answer ${id} to a request with code ${code}`)
    const parts = rlp.items(bytes)
    if (parts.length !== 2) throw new Error(`an answer is [id, items], not ${parts.length} items`)
    return rlp.items(parts[1])
  }

  headers({ start, amount, skip, reverse }, id) {
    return this.request(Code.GetBlockHeaders, [start, amount, skip, reverse ? 1 : 0], id)
  }

  bodies(hashes, id) {
    return this.request(Code.GetBlockBodies, hashes, id)
  }

  receipts(hashes, id) {
    return this.request(Code.GetReceipts, hashes, id)
  }

  /** Sends a Ping and waits for its Pong. */
  async ping() {
    const handle = this.peer._handlePong
    const pong = new Promise((resolve) => {
      this.peer._handlePong = (...args) => {
        this.peer._handlePong = handle
        handle.apply(this.peer, args)
        resolve()
      }
    })
    this.peer._sendPing()
    await within(pong, 'Pong')
  }

  /** Leaves with a Disconnect. */
  close() {
    if (this.gone === undefined) this.peer.disconnect()
    // A flushed Disconnect is polite; the library would keep the socket for two seconds more.
    this.peer._socket.end()
    setTimeout(() => this.peer._socket.destroy(), 200).unref()
  }
}

/** A node of the library: a key, and the sessions it dials or takes. */
export class Node {
  #sockets = new Set()
  #queue = [] // sessions nobody took yet
  #takers = []

  constructor(chain, { key = genPrivateKey(), status = {}, onRequest = null } = {}) {
    this.chain = chain
    this.errors = []
    this.rlpx = new RLPx(key, { capabilities: [RawEth.eth68raw], common: chain.common, timeout: WAIT_MS, maxPeers: 50 })
    this.rlpx._server.on('connection', (socket) => this.#sockets.add(socket))
    this.rlpx.events.on('peer:error', (_peer, error) => this.errors.push(error))
    this.rlpx.events.on('error', (error) => this.errors.push(error))
    this.rlpx.events.on('peer:added', (peer) => {
      peer._socket.setNoDelay(true) // the library writes a frame in two pieces
      const session = new Session(peer, this, onRequest)
      if (status !== null) session.sendStatus(chain, status)
      const taker = this.#takers.shift()
      if (taker) taker(session)
      else this.#queue.push(session)
    })
  }

  async listen(port) {
    this.port = port
    this.rlpx.listen(port, '127.0.0.1')
    await within(once(this.rlpx._server, 'listening'), 'listening')
    return this.enode
  }

  get enode() {
    return `enode://${bytesToHex(this.rlpx.id).slice(2)}@127.0.0.1:${this.port}`
  }

  /** The next session past Hello, dialled or taken. */
  async session(ms = WAIT_MS) {
    const ready = this.#queue.shift()
    if (ready) return ready
    let taker
    const next = new Promise((resolve) => this.#takers.push((taker = resolve)))
    try {
      return await within(next, `a session (errors so far: ${this.errors.map((e) => e.message).join('; ') || 'none'})`, ms)
    } catch (error) {
      this.#takers = this.#takers.filter((t) => t !== taker)
      throw error
    }
  }

  async dial(enode) {
    const [, id, host, port] = /^enode:\/\/([0-9a-f]{128})@([^:]+):(\d+)/.exec(enode)
    await within(this.rlpx.connect({ id: Uint8Array.from(Buffer.from(id, 'hex')), address: host, tcpPort: Number(port) }), 'connect')
    return this.session()
  }

  /** Ends every connection and frees the port. */
  close() {
    for (const entry of this.rlpx._peers.values()) (entry._socket ?? entry).destroy()
    for (const socket of this.#sockets) socket.destroy()
    if (this.rlpx._isAlive()) this.rlpx.destroy()
  }
}

/** Dials with a key of its own and comes back when both Statuses are exchanged. */
export async function dial(chain, enode, options) {
  const node = new Node(chain, options)
  try {
    const session = await node.dial(enode)
    if (options?.status !== null) session.peerStatus = await within(Promise.race([session.status, fail(session)]), 'Status')
    return session
  } catch (error) {
    node.close()
    throw error
  }
}

/** Rejects when the session ends. */
export async function fail(session) {
  const gone = await session.closed
  throw new Error(`the session ended: ${JSON.stringify(gone)}; ${session.node.errors.map((e) => e.message).join('; ')}`)
}

/** Answers GetBlockHeaders and GetBlockBodies with the bytes of the chain's file; `spoil` may change them. */
export function serve(chain, spoil = (items) => items) {
  return (session, code, bytes) => {
    const [id, query] = rlp.items(bytes)
    let items = []
    if (code === Code.GetBlockHeaders) {
      const [start, amount, skip, reverse] = rlp.items(query)
      const hash = rlp.string(start)
      const request = {
        start: hash.length === 32 ? hash : rlp.number(start),
        amount: rlp.number(amount),
        skip: rlp.number(skip),
        reverse: rlp.number(reverse) !== 0n,
      }
      items = chain.headerNumbers(request).map((number) => chain.block(number)?.header).filter((header) => header !== undefined)
    } else if (code === Code.GetBlockBodies) {
      let size = 0
      for (const hash of rlp.items(query)) {
        const found = chain.find(rlp.string(hash))
        if (found === undefined) continue
        if (items.length === MAX_ITEMS || size + found.body.length > SOFT_LIMIT_BYTES) break
        items.push(found.body)
        size += found.body.length
      }
    }
    session.send(answerTo[code], rlp.list([id, rlp.list(spoil(items, code))]))
  }
}

/** RLP of plain values, by the library. */
export const encode = (value) => RLP.encode(value)
