// A peer that breaks the protocol at a chosen step, and what it is told before the connection ends.
import { randomBytes } from 'node:crypto'
import { connect as tcp } from 'node:net'
import { ETH, Peer, genPrivateKey, pk2id } from '@ethereumjs/devp2p'
import { RLP } from '@ethereumjs/rlp'
import { bytesToInt } from '@ethereumjs/util'
import { secp256k1 } from 'ethereum-cryptography/secp256k1.js'
import snappy from 'snappyjs'
import { WAIT_MS, within } from '../../lib/child.mjs'

const HELLO = 0x00

/** Opens a TCP connection to `enode`; `ended` resolves when the other side has closed it. */
export async function connect(enode) {
  const [, id, host, port] = /^enode:\/\/([0-9a-f]{128})@([^:]+):(\d+)/.exec(enode)
  const socket = tcp(Number(port), host)
  socket.on('error', () => {}) // a reset is an end too
  const ended = new Promise((done) => {
    socket.once('end', done)
    socket.once('close', done)
  })
  await within(new Promise((done) => socket.once('connect', done)), 'connect')
  return { socket, ended, id: Uint8Array.from(Buffer.from(id, 'hex')) }
}

/**
 * Goes through the RLPx handshake and then calls `instead` in the place of sending Hello. Gives the reason
 * of the Disconnect that comes back, or null where the connection just ends.
 */
export async function atHello(chain, enode, instead, ms = WAIT_MS) {
  const { socket, ended, id } = await connect(enode)
  const key = genPrivateKey()
  const own = pk2id(secp256k1.getPublicKey(key, false))
  const peer = new Peer({
    socket,
    remoteId: id,
    privateKey: key,
    id: own,
    timeout: ms,
    clientId: Buffer.from('hostile'),
    capabilities: [ETH.eth68],
    common: chain.common,
    port: null,
  })
  peer.events.on('error', () => {})
  const reason = firstReason(peer)
  peer._sendHello = () => instead(peer, own)
  try {
    await within(ended, 'the end of the connection', ms)
    return reason.value
  } finally {
    socket.destroy()
    clearInterval(peer._pingIntervalId)
  }
}

/** Hello as this library sends it, with some fields changed. */
export function hello(id, { version = 5, client = 'hostile', capabilities = [['eth', 68]], port = 0 } = {}) {
  return RLP.encode([version, client, capabilities, port, id])
}

export const sendHello = (peer, bytes) => peer._sendMessage(HELLO, bytes)

/** The reason of the Disconnect that a session is sent, or null where the connection just ends. */
export async function reasonOf(session, ms = WAIT_MS) {
  const gone = await within(session.closed, 'the end of the session', ms)
  if (gone.byUs) throw new Error(`the peer itself ended the session, with reason ${gone.reason}`)
  return gone.said ? gone.reason : null
}

function firstReason(peer) {
  const seen = { value: null }
  const handle = peer._handleDisconnect
  peer._handleDisconnect = (payload) => {
    seen.value ??= bytesToInt(payload instanceof Uint8Array ? payload : (payload[0] ?? Uint8Array.of(0)))
    handle.call(peer, payload)
  }
  return seen
}

/** Sends bytes as the payload of an eth message, compressed by nobody. */
export function sendUncompressed(session, code, bytes) {
  session.eth._send(code, Uint8Array.from(bytes))
}

/** Sends a message with a code of the whole connection: 0x10 is the first of eth. */
export function sendAnyCode(session, code, encoded) {
  session.peer._sendMessage(code, snappy.compress(Uint8Array.from(encoded)))
}

/** Sends a frame of which one bit is wrong, so that its MAC does not match. */
export function sendBrokenFrame(session) {
  const frame = session.peer._eciesSession.createBlockHeader(16)
  frame[3] ^= 1
  session.peer._socket.write(frame)
}

export const noise = (length) => randomBytes(length)
