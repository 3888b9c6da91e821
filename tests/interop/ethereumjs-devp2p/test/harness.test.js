// The peer against itself: a failure of the other tests then lies in cairn, and not here. Needs no cairn.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freePort } from '../../lib/child.mjs'
import { Chain, block } from '../lib/chain.js'
import { Code, Node, dial, encode, serve } from '../lib/peer.js'
import { ask, checkStatus, questions } from '../lib/questions.js'

const genesis = JSON.stringify({
  config: { chainId: 7331, homesteadBlock: 0, eip150Block: 0, eip155Block: 0, eip158Block: 0, byzantiumBlock: 0 },
  nonce: '0x0',
  timestamp: '0x0',
  gasLimit: '0x1c9c380',
  difficulty: '0x1',
  alloc: {},
})

/** 1,100 made-up blocks: right in shape and linked, with a "transaction" of rising size each. */
function madeUpChain() {
  const blocks = []
  let parent = new Uint8Array(32)
  for (let number = 0; number < 1100; number++) {
    const zeros = (n) => new Uint8Array(n)
    const header = [parent, zeros(32), zeros(20), zeros(32), zeros(32), zeros(32), zeros(256), 2, number, 30_000_000, 0, number * 5, zeros(0), zeros(32), zeros(8)]
    const made = block(encode([header, [zeros(number * 8).fill(number % 251)], []]))
    parent = made.hash
    blocks.push(made)
  }
  return new Chain('made-up', genesis, blocks)
}

const chain = madeUpChain()

async function server(spoil) {
  const node = new Node(chain, { onRequest: serve(chain, spoil) })
  await node.listen(await freePort())
  return node
}

test('the questions are answered by a peer that serves the chain', async (t) => {
  const node = await server()
  t.after(() => node.close())
  const session = await dial(chain, node.enode)
  t.after(() => session.node.close())
  checkStatus(session.peerStatus, chain)
  await ask(t, session, chain, questions(chain))
  session.close()
})

test('a question fails where one byte of an answer is wrong', async (t) => {
  // The last byte but one: a bit of the header's nonce, or of the last transaction.
  const node = await server((items) => items.map((item) => item.with(-2, item.at(-2) ^ 1)))
  t.after(() => node.close())
  const session = await dial(chain, node.enode)
  t.after(() => session.node.close())
  const list = new Map(questions(chain))
  await assert.rejects(list.get('headers by number')(session), /the first difference is at byte/)
  await assert.rejects(list.get('bodies by hash')(session), /the first difference is at byte/)
})

test('a question fails where an answer has an item too many or too few', async (t) => {
  let change = (items) => items.slice(0, -1)
  const node = await server((items) => change(items))
  t.after(() => node.close())
  const session = await dial(chain, node.enode)
  t.after(() => session.node.close())
  const list = new Map(questions(chain))
  await assert.rejects(list.get('headers by number')(session), /headers in the answer/)
  await assert.rejects(list.get('bodies by hash')(session), /cut after/)
  change = (items) => [...items, items.at(-1) ?? Uint8Array.of(0xc0)]
  await assert.rejects(list.get('headers past the head')(session), /headers in the answer/)
  await assert.rejects(list.get('bodies of unknown blocks')(session), /bodies, at most/)
})

test('a session that the other side ends says so to whoever waits', async (t) => {
  const node = new Node(chain, { onRequest: (session, code) => code === Code.GetBlockHeaders && session.close() })
  t.after(() => node.close())
  await node.listen(await freePort())
  const session = await dial(chain, node.enode)
  t.after(() => session.node.close())
  await assert.rejects(session.headers({ start: 1n, amount: 1n, skip: 0n, reverse: false }), /the session is closed/)
})
