// Receipts, where cairn has them: it imports an era1 file and serves them over eth/68, with their blooms, as the file has them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cairn, dataFolder } from '../../lib/cairn.mjs'
import { freePort } from '../../lib/child.mjs'
import { Node, dial, serve } from '../lib/peer.js'
import { ask, checkStatus, politeQuestions, questions, receiptQuestions } from '../lib/questions.js'
import { generatedEra } from '../lib/sources.js'

test('receipts', { timeout: 240_000 }, async (t) => {
  const { chain, file, genesisFile } = await generatedEra()
  const listener = new Node(chain, { onRequest: serve(chain) })
  t.after(() => listener.close())
  const bootnodes = [await listener.listen(await freePort())]
  const cairn = await Cairn.start(await dataFolder({ file, genesisFile }), { bootnodes })
  t.after(() => cairn.stop())
  const all = [...receiptQuestions(chain), ...questions(chain), ...politeQuestions(chain)]

  await t.test('the peer dials cairn and asks', { timeout: 120_000 }, async (t) => {
    const session = await dial(chain, cairn.enode)
    t.after(() => session.node.close())
    checkStatus(session.peerStatus, chain)
    await ask(t, session, chain, all)
  })

  await t.test('the peer asks over the session that cairn dialled', { timeout: 120_000 }, async (t) => {
    const session = await listener.session()
    checkStatus(await session.status, chain)
    await ask(t, session, chain, all)
  })

  await t.test('cairn stops when it is told to', async () => {
    assert.deepEqual(await cairn.stop(), { code: 0, signal: null })
    assert.doesNotMatch(cairn.log, /panicked/)
  })
})
