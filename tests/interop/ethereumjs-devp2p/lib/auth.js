// Auths: as this library makes them, and as it never would; and what cairn says to each.
import { connect as tcp } from 'node:net'
import { ECIES, genPrivateKey, pk2id } from '@ethereumjs/devp2p'
import { RLP } from '@ethereumjs/rlp'
import { secp256k1 } from 'ethereum-cryptography/secp256k1.js'
import { WAIT_MS, within } from '../../lib/child.mjs'
import { noise } from './hostile.js'

/** What ECIES adds to a text: ephemeral key, initialisation vector, tag. */
export const OVERHEAD_BYTES = 65 + 16 + 32
/** An auth before EIP-8, which is also the least that this library's listener waits for. */
export const PLAIN_AUTH_BYTES = 307
const PLAIN_ACK_BYTES = 210
const FRAME_HEADER_BYTES = 32

const u16 = (n) => Buffer.from([n >> 8, n & 0xff])

const idOf = (key) => pk2id(secp256k1.getPublicKey(key, false))

/** The secrets of one handshake with the node of this id, or as its recipient where there is none. */
export function secrets(id = null, key = genPrivateKey()) {
  return new ECIES(key, idOf(key), id)
}

/** A key and its id. */
export function identity() {
  const key = genPrivateKey()
  return { key, id: idOf(key) }
}

/** The library drops leading zeros of a signature's numbers. Another nonce makes another signature. */
const anew = (session) => (session._nonce = noise(32))

/** `[signature, id, nonce, version]` of an auth as this library would send it. */
export function fields(session) {
  const encrypt = session._encryptMessage
  for (;;) {
    let text
    session._encryptMessage = (plain) => (text = plain)
    session.createAuthEIP8()
    session._encryptMessage = encrypt
    const list = RLP.decode(text, true).data
    if (list[0].length === 65) return list
    anew(session)
  }
}

/** Encrypts a text of any kind as an auth in EIP-8's form; `claimed` is its size prefix where that is not to be the right one. */
export function packed(session, text, claimed = text.length + OVERHEAD_BYTES) {
  const size = u16(claimed)
  session._initMsg = Buffer.concat([size, session._encryptMessage(text, size)])
  return session._initMsg
}

/** An auth of these fields and this much padding. */
export function auth(session, { change = (list) => list, padding = 150 } = {}) {
  return packed(session, Buffer.concat([RLP.encode(change(fields(session))), noise(padding)]))
}

/** An auth of exactly this many bytes. */
export function authOf(session, bytes) {
  const least = auth(session, { padding: 0 }).length
  return auth(session, { padding: bytes - least })
}

/** An auth in the form before EIP-8. */
export function plainAuth(session) {
  for (;;) {
    const made = session.createAuthNonEIP8()
    if (made.length === PLAIN_AUTH_BYTES) return made
    anew(session)
  }
}

/** A connection whose bytes are waited for. */
export class Raw {
  #bytes = Buffer.alloc(0)
  #look = () => {}

  static async connect(port) {
    const raw = new Raw()
    raw.socket = tcp(port, '127.0.0.1')
    raw.socket.setNoDelay(true)
    raw.ended = new Promise((done) => raw.socket.once('close', done))
    raw.socket.on('error', () => {}) // a reset is an end too
    raw.socket.on('data', (chunk) => {
      raw.#bytes = Buffer.concat([raw.#bytes, chunk])
      raw.#look()
    })
    raw.ended.then(() => raw.#look())
    await within(new Promise((done) => raw.socket.once('connect', done)), 'connect')
    return raw
  }

  /** The bytes that came and were not taken. */
  get pending() {
    return this.#bytes
  }

  async take(length, what) {
    const there = new Promise((done, failed) => {
      this.#look = () => {
        if (this.#bytes.length >= length) done()
        else if (this.socket.destroyed) failed(new Error(`${what}: the connection ended after ${this.#bytes.length} of ${length} bytes`))
      }
      this.#look()
    })
    await within(there, what)
    const taken = this.#bytes.subarray(0, length)
    this.#bytes = this.#bytes.subarray(length)
    return taken
  }

  /** Waits for the end, and gives what came before it. */
  async end(ms = WAIT_MS) {
    await within(this.ended, 'the end of the connection', ms)
    return this.#bytes
  }
}

/** Reads ack and the header of the first frame, whose MAC shows that both have the same secrets. */
export async function linked(raw, session, { plain = false } = {}) {
  if (plain) session.parseAckPlain(await raw.take(PLAIN_ACK_BYTES, 'the plain ack'))
  else {
    const size = await raw.take(2, 'the size of the ack')
    session._gotEIP8Ack = true
    session.parseAckEIP8(Buffer.concat([size, await raw.take(size.readUInt16BE(), 'the ack')]))
  }
  return session.parseHeader(await raw.take(FRAME_HEADER_BYTES, 'the header of Hello'))
}
