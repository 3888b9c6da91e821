// cairn and a peer on @ethereumjs/devp2p talk eth/68: each dials the other, and whatever the peer asks for
// comes back as the bytes of the chain file.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { Cairn, dataFolder, run } from '../../lib/cairn.mjs'
import { WAIT_MS, freePort, freshFolder } from '../../lib/child.mjs'
import { Node, dial, serve } from '../lib/peer.js'
import { ask, assertSameBytes, checkStatus, politeQuestions, questions } from '../lib/questions.js'
import { generatedChain, recordedChain } from '../lib/sources.js'

/** After a session that it dialled has ended, a node may wait this long until it dials again. */
const REDIAL_MS = 60_000
/** cairn sends a Ping after 15 s without a frame, and gives up after 30. */
const SILENCE_MS = 32_000

const sources = [
  ['a generated clique chain', generatedChain, { seals: true }],
  // The chain id of this chain has 256 bits, and its network id is the low 64 of them; the library takes the
  // one for the other, so it is told those (`commonAt` in lib/chain.js).
  ['geth-hivechain-500', () => recordedChain('geth-hivechain-500', 'chain.rlp'), { idle: true }],
  ['pow-london-1024', () => recordedChain('pow-london-1024', 'hive-engine-blocks_1024_td_135112316.rlp')],
]

describe('eth/68', { concurrency: 1 }, () => {
  for (const [name, source, { seals = false, idle = false } = {}] of sources) {
    test(name, { timeout: 240_000 }, async (t) => {
      const found = await source()
      if (found === null) return t.skip('CAIRN_DATA is not set')
      const { chain, file, genesisFile } = found
      const datadir = await dataFolder({ file, genesisFile })
      const listener = new Node(chain, { onRequest: serve(chain) })
      t.after(() => listener.close())
      const cairn = await Cairn.start(datadir, { bootnodes: [await listener.listen(await freePort())] })
      t.after(() => cairn.stop())

      let dialled
      await t.test('cairn dials the peer', { timeout: WAIT_MS * 2 }, async () => {
        dialled = await listener.session()
        checkStatus(await dialled.status, chain)
        assert.match(dialled.hello.clientId, /^cairn\/v/)
        await dialled.ping()
        assert.equal(dialled.served, 0, 'nothing is asked of a peer that has nothing new, when it connects')
      })
      assert.ok(dialled, 'without that session there is nothing more to see')

      await t.test('the peer dials cairn and asks', { timeout: 240_000 }, async (t) => {
        const session = await dial(chain, cairn.enode)
        t.after(() => session.node.close())
        assert.match(session.hello.clientId, /^cairn\/v/)
        assert.equal(session.hello.protocolVersion, 5)
        checkStatus(session.peerStatus, chain)
        await ask(t, session, chain, [...questions(chain), ...politeQuestions(chain)])
        session.close()
      })

      await t.test('the peer asks over the session that cairn dialled', { timeout: 240_000 }, async (t) => {
        await ask(t, dialled, chain, [...questions(chain), ...politeQuestions(chain)])
      })

      await t.test('several peers are answered at once', { timeout: 120_000 }, async (t) => {
        const sessions = await Promise.all(Array.from({ length: 5 }, () => dial(chain, cairn.enode)))
        t.after(() => sessions.forEach((session) => session.node.close()))
        const list = new Map(questions(chain))
        await Promise.all(
          sessions.map(async (session) => {
            for (const question of ['headers in reverse', 'bodies by hash', 'many bodies at once']) await list.get(question)(session)
          }),
        )
      })

      if (idle) {
        await t.test('cairn sends a Ping to a peer that is silent, and its Pong keeps the session', { timeout: SILENCE_MS * 2 }, async () => {
          // The library's own Pings would break the silence; cairn's requests would too, but where it can check no
          // seal and was told of no head to trust it follows nothing and asks nothing.
          clearInterval(dialled.peer._pingIntervalId)
          await new Promise((done) => setTimeout(done, SILENCE_MS))
          assert.ok(dialled.pings > 0, 'cairn sent no Ping')
          await new Map(questions(chain)).get('headers by number')(dialled)
        })
      }

      await t.test('cairn dials again after the session has ended', { timeout: REDIAL_MS * 2 }, async () => {
        dialled.close()
        const again = await listener.session(REDIAL_MS)
        checkStatus(await again.status, chain)
        await new Map(questions(chain)).get('headers by number')(again)
      })

      await t.test('cairn catches up from the peer, and its export equals the file', { timeout: 120_000 }, async (t) => {
        const source = new Node(chain, { onRequest: serve(chain) })
        t.after(() => source.close())
        const empty = await dataFolder({ genesisFile })
        const args = seals ? [] : ['--synctarget', chain.headHash]
        const follower = await Cairn.start(empty, { bootnodes: [await source.listen(await freePort())], args })
        t.after(() => follower.stop())
        await follower.reaches(chain.headHash)
        assert.deepEqual(await follower.stop(), { code: 0, signal: null })
        const exported = join(freshFolder(), 'export.rlp')
        await run('export', '--datadir', empty, exported, String(chain.first), String(chain.head.number))
        assertSameBytes(readFileSync(exported), readFileSync(file), 'the export')
      })

      await t.test('cairn stops when it is told to', { timeout: WAIT_MS * 2 }, async () => {
        assert.deepEqual(await cairn.stop(), { code: 0, signal: null })
        assert.doesNotMatch(cairn.log, /panicked/)
      })
    })
  }
})
