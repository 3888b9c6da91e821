// @ethereumjs/client and cairn as whole nodes of one clique network: whoever seals, the other follows to the same head,
// and what cairn serves the client executes. Each dials and is dialled.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Cairn, dataFolder, recorded, run, store } from '../../lib/cairn.mjs'
import { freshFolder, until } from '../../lib/child.mjs'
import * as rlp from '../../lib/rlp.mjs'
import { Client, answersPings } from '../lib/client.js'
import { executedChain, genesis, hex, signer } from '../lib/executed.js'

/** Some blocks of a signer, on a machine that does more than this. */
const FOLLOW_MS = 180_000
/** A hundred blocks and some hundred transactions, in JavaScript. */
const EXECUTE_MS = 180_000
/** Of that chain's 1,024: this client executes some ten a second. Each has as many transactions. */
const GETH_BLOCKS = 50
const GETH_TRANSACTIONS = 11
const TEST_MS = 600_000

/** A genesis of the moment, so that the first block can be sealed at once. */
function freshGenesis() {
  const genesisFile = join(freshFolder(), 'genesis.json')
  writeFileSync(genesisFile, JSON.stringify(genesis({ time: Math.floor(Date.now() / 1000) - 10 })))
  return genesisFile
}

/**
 * Between cairn's blocks, while the client follows: it takes an announced block only where it has the parent, and reads a peer's
 * total difficulty once, from Status. What it misses it never asks for.
 */
const INTERVAL_MS = 12_000
/** While nobody follows: the chain's period. */
const ALONE_MS = 1_000

function signerArgs(intervalMs) {
  const keyFile = join(freshFolder(), 'signer.key')
  writeFileSync(keyFile, hex(signer), { mode: 0o600 })
  return ['--enable-consensus', '--signer-key', keyFile, '--block-interval-ms', String(intervalMs)]
}

/** A cairn that the client can dial: its key is known, and somebody answers discv4 pings with it. */
async function dialable(t, datadir, args) {
  const key = randomBytes(32)
  const keyFile = join(freshFolder(), 'nodekey')
  writeFileSync(keyFile, hex(key), { mode: 0o600 })
  const cairn = await Cairn.start(datadir, { args: [...args, '--nodekey', keyFile] })
  t.after(() => cairn.stop())
  const answerer = await answersPings(key, cairn.port)
  t.after(() => answerer.destroy())
  return cairn
}

/** Waits until both have the same head, at `number` or above, and compares every block up to there. */
async function sameHead(client, cairn, number) {
  const head = await until(
    async () => {
      const [ours, theirs] = [await cairn.head(), await client.head()]
      return ours.hash === theirs.hash && ours.number >= number ? ours : undefined
    },
    `cairn and the client have the same head at ${number} or above`,
    FOLLOW_MS,
  )
  const { stdout } = await store('list', '--json', '--datadir', cairn.datadir, `1..${head.number}`)
  const blocks = stdout.trim().split('\n').map((line) => JSON.parse(line))
  assert.equal(blocks.length, head.number)
  for (const { number, hash } of blocks) assert.equal(hash, await client.hashAt(number), `block ${number}`)
  return head
}

async function stops(cairn) {
  assert.deepEqual(await cairn.stop(), { code: 0, signal: null })
  assert.doesNotMatch(cairn.log, /panicked/)
}

test('the client seals, and cairn dials it, catches up and follows', { timeout: TEST_MS }, async (t) => {
  const genesisFile = freshGenesis()
  const client = await Client.start({ genesisFile, seals: true })
  t.after(() => client.stop('SIGKILL'))
  await until(async () => (await client.head()).number >= 5, 'the client has sealed five blocks', FOLLOW_MS)
  const cairn = await Cairn.start(await dataFolder({ genesisFile }), { bootnodes: [client.enode] })
  t.after(() => cairn.stop())
  const { number } = await sameHead(client, cairn, 5)
  await sameHead(client, cairn, number + 3)
  await stops(cairn)
})

test('the client dials cairn and seals, and cairn follows from the first block', { timeout: TEST_MS }, async (t) => {
  const genesisFile = freshGenesis()
  const cairn = await dialable(t, await dataFolder({ genesisFile }), [])
  const client = await Client.start({ genesisFile, seals: true, dials: cairn.enode })
  t.after(() => client.stop('SIGKILL'))
  await sameHead(client, cairn, 5)
  await stops(cairn)
})

test('cairn seals, and the client dials it, executes, and follows what cairn seals then', { timeout: TEST_MS }, async (t) => {
  const genesisFile = freshGenesis()
  const datadir = await dataFolder({ genesisFile })
  const alone = await Cairn.start(datadir, { args: signerArgs(ALONE_MS) })
  t.after(() => alone.stop())
  await until(async () => (await alone.head()).number >= 3, 'cairn has sealed three blocks', FOLLOW_MS)
  await stops(alone)
  // A block that is sealed while the client fetches is one that it misses: on a busy machine a fetch takes as long as an interval.
  const resting = await dialable(t, datadir, [])
  const client = await Client.start({ genesisFile, dials: resting.enode })
  t.after(() => client.stop('SIGKILL'))
  const { number } = await sameHead(client, resting, 3)
  await client.executes(number, EXECUTE_MS)
  await stops(resting)
  const sealing = await Cairn.start(datadir, { args: signerArgs(INTERVAL_MS), bootnodes: [client.enode] })
  t.after(() => sealing.stop())
  await sameHead(client, sealing, number + 3)
  await client.executes(number + 3, EXECUTE_MS)
  await stops(sealing)
})

/** An empty cairn takes the chain from the client, and what it has then is the file. */
async function takesItBack(t, client, { file, genesisFile, head }) {
  const cairn = await Cairn.start(await dataFolder({ genesisFile }), { bootnodes: [client.enode] })
  t.after(() => cairn.stop())
  await cairn.reaches(head)
  await stops(cairn)
  const exported = join(freshFolder(), 'export.rlp')
  await run('export', '--datadir', cairn.datadir, exported, '1')
  assert.equal(Buffer.compare(readFileSync(exported), readFileSync(file)), 0, 'the export is the file')
}

test('a finished chain with transactions', { timeout: TEST_MS }, async (t) => {
  const folder = freshFolder()
  const chain = await executedChain({ blocks: 100, file: join(folder, 'chain.rlp'), genesisFile: join(folder, 'genesis.json') })

  /** Waits for the head, for every transaction executed, and asks for the state after them. */
  async function executes(client, cairn) {
    assert.equal((await sameHead(client, cairn, chain.blocks)).hash, chain.head)
    assert.equal(await client.executes(chain.blocks, EXECUTE_MS), chain.transactions, 'transactions executed')
    for (const [address, balance] of chain.balances) {
      assert.equal(BigInt(await client.rpc('eth_getBalance', address, 'latest')), balance, `balance of ${address}`)
    }
  }

  await t.test('cairn dials the client, which executes it to the head and then serves it to an empty cairn', async (t) => {
    const client = await Client.start(chain)
    t.after(() => client.stop('SIGKILL'))
    const cairn = await Cairn.start(await dataFolder(chain), { bootnodes: [client.enode] })
    t.after(() => cairn.stop())
    await executes(client, cairn)
    await stops(cairn)
    await takesItBack(t, client, chain)
  })

  await t.test('the client dials cairn, and executes it to the head', async (t) => {
    const cairn = await dialable(t, await dataFolder(chain), [])
    const client = await Client.start({ ...chain, dials: cairn.enode })
    t.after(() => client.stop('SIGKILL'))
    await executes(client, cairn)
    await stops(cairn)
  })
})

test("the first blocks of geth's proof-of-work chain, which call contracts", { timeout: TEST_MS }, async (t) => {
  const source = recorded('chains', 'pow-london-1024', 'hive-engine-blocks_1024_td_135112316.rlp')
  if (source === null) return t.skip('CAIRN_DATA is not set')
  const genesisFile = recorded('chains', 'pow-london-1024', 'genesis.json')
  const file = join(freshFolder(), 'chain.rlp')
  writeFileSync(file, Buffer.concat(rlp.split(readFileSync(source)).slice(0, GETH_BLOCKS)))
  const client = await Client.start({ genesisFile })
  t.after(() => client.stop('SIGKILL'))
  const cairn = await Cairn.start(await dataFolder({ file, genesisFile }), { bootnodes: [client.enode] })
  t.after(() => cairn.stop())
  await sameHead(client, cairn, GETH_BLOCKS)
  assert.equal(await client.executes(GETH_BLOCKS, EXECUTE_MS), GETH_BLOCKS * GETH_TRANSACTIONS)
  await stops(cairn)
})
