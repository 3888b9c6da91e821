// @ethereumjs/client and cairn as whole nodes of one clique network: whoever seals, the other follows to the same head,
// and what cairn serves the client executes. Each dials and is dialled.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Cairn, dataFolder, run, store } from '../../lib/cairn.mjs'
import { freePort, freshFolder, inCi, until } from '../../lib/child.mjs'
import { Client, answersPings } from '../lib/client.js'
import { executedChain, genesis, hex, signer } from '../lib/executed.js'

/** Some blocks, sealed one a second or two, on a machine that does more than this. */
const FOLLOW_MS = 90_000
/** A hundred blocks and some hundred transactions, in JavaScript. */
const EXECUTE_MS = 180_000
const TEST_MS = 300_000

/** A genesis of the moment, so that the first block can be sealed at once. */
function freshGenesis() {
  const genesisFile = join(freshFolder(), 'genesis.json')
  writeFileSync(genesisFile, JSON.stringify(genesis({ time: Math.floor(Date.now() / 1000) - 10 })))
  return genesisFile
}

/**
 * Between cairn's blocks. Behind the head by more than one, this client takes no block that is announced: it asks for one
 * header every five seconds instead, and would never come up with a faster signer.
 */
const INTERVAL_MS = 6000

function signerArgs() {
  const keyFile = join(freshFolder(), 'signer.key')
  writeFileSync(keyFile, hex(signer), { mode: 0o600 })
  return ['--enable-consensus', '--signer-key', keyFile, '--block-interval-ms', String(INTERVAL_MS)]
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

test('cairn seals, and the client dials it, follows and executes', { timeout: TEST_MS }, async (t) => {
  const genesisFile = freshGenesis()
  const cairn = await dialable(t, await dataFolder({ genesisFile }), signerArgs())
  const client = await Client.start({ genesisFile, dials: cairn.enode })
  t.after(() => client.stop('SIGKILL'))
  const { number } = await sameHead(client, cairn, 2)
  await client.executes(number, EXECUTE_MS)
  await sameHead(client, cairn, number + 2)
  await client.executes(number + 2, EXECUTE_MS)
  await stops(cairn)
})

test('the client executes a finished chain with transactions to its head', { timeout: TEST_MS * 2 }, async (t) => {
  const folder = freshFolder()
  const chain = await executedChain({ blocks: 120, file: join(folder, 'chain.rlp'), genesisFile: join(folder, 'genesis.json') })

  /** The state after the chain, asked where the client has executed it to its end. */
  async function executed(client) {
    assert.equal(await client.executes(chain.blocks, EXECUTE_MS), chain.transactions, 'transactions executed')
    for (const [address, balance] of chain.balances) {
      assert.equal(BigInt(await client.rpc('eth_getBalance', address, 'latest')), balance, `balance of ${address}`)
    }
  }

  await t.test('cairn dials the client', async (t) => {
    const client = await Client.start(chain)
    t.after(() => client.stop('SIGKILL'))
    const cairn = await Cairn.start(await dataFolder(chain), { bootnodes: [client.enode] })
    t.after(() => cairn.stop())
    assert.equal((await sameHead(client, cairn, chain.blocks)).hash, chain.head)
    await executed(client)
    await stops(cairn)
  })

  await t.test('the client dials cairn', async (t) => {
    const cairn = await dialable(t, await dataFolder(chain), [])
    const client = await Client.start({ ...chain, dials: cairn.enode })
    t.after(() => client.stop('SIGKILL'))
    assert.equal((await sameHead(client, cairn, chain.blocks)).hash, chain.head)
    await executed(client)
    await stops(cairn)
  })
})
