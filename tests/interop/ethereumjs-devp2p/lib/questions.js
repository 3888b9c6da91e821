// What a peer is asked over eth, and the check that every answer equals the chain file's bytes.
import assert from 'node:assert/strict'
import { keccak256 } from 'ethereum-cryptography/keccak.js'
import { within } from '../../lib/child.mjs'
import { Code, encode } from './peer.js'
import { MAX_ITEMS, SOFT_LIMIT_BYTES } from './chain.js'
import * as rlp from '../../lib/rlp.mjs'

const U64_MAX = 2n ** 64n - 1n
const UNKNOWN = Buffer.alloc(32, 0xab)
/** Every client takes this many hashes in a request. */
const MANY = 1000

/** Compares without printing kilobytes: the place of the first difference is enough. */
export function assertSameBytes(actual, expected, what) {
  if (Buffer.compare(actual, expected) === 0) return
  let at = 0
  while (at < actual.length && actual[at] === expected[at]) at++
  assert.fail(`${what}: ${actual.length} bytes, expected ${expected.length}; the first difference is at byte ${at}`)
}

async function askHeaders(session, chain, query, id) {
  const request = { skip: 0n, reverse: false, ...query }
  const answer = await session.headers(request, id)
  const expected = chain.headerNumbers(request)
  assert.equal(answer.length, expected.length, `headers in the answer to ${describe(request)}`)
  answer.forEach((header, i) => {
    const what = `header ${expected[i]} in the answer to ${describe(request)}`
    const known = chain.block(expected[i])
    if (known !== undefined) assertSameBytes(header, known.header, what)
    // A file that begins at block 1 tells of block 0 its hash alone.
    else assertSameBytes(keccak256(header), chain.genesisHash, what)
  })
}

/** Asks for the bodies of `hashes`; what the chain does not have must be left out, and the rest come in order. */
const askBodies = (session, chain, hashes, id) => askByHash(session, chain, hashes, 'bodies', 'body', id)

/** Asks for the receipts of blocks, as for bodies. */
const askReceipts = (session, chain, hashes) => askByHash(session, chain, hashes, 'receipts', 'receipts')

async function askByHash(session, chain, hashes, items, item, id) {
  const answer = await session[items](hashes, id)
  const expected = hashes.map((hash) => chain.find(hash)).filter((block) => block !== undefined)
  assert.ok(answer.length <= expected.length, `${answer.length} ${items}, at most ${expected.length} were asked for`)
  answer.forEach((got, i) => assertSameBytes(got, expected[i][item], `${item} of block ${expected[i].number}`))
  if (answer.length < expected.length && answer.length < MAX_ITEMS) {
    // An answer may only be cut short by its size.
    const size = expected.slice(0, answer.length + 1).reduce((sum, block) => sum + block[item].length, 0)
    assert.ok(size > SOFT_LIMIT_BYTES, `cut after ${answer.length} of ${expected.length} ${items}, ${size} bytes with the next`)
  }
  return answer.length
}

function describe({ start, amount, skip, reverse }) {
  const from = typeof start === 'bigint' ? start : Buffer.from(start).toString('hex').slice(0, 8)
  return `GetBlockHeaders(${from}, amount ${amount}, skip ${skip}${reverse ? ', reverse' : ''})`
}

/**
 * The questions, by name. Each takes a session past Status and the chain the other side has.
 * After each one the session must still be there.
 */
export function questions(chain) {
  const head = chain.head.number
  const middle = chain.block(head / 2n)
  const headers = (name, ...queries) => [
    name,
    async (session) => {
      for (const query of queries) await askHeaders(session, chain, query)
    },
  ]
  const bodies = (name, ...lists) => [
    name,
    async (session) => {
      for (const hashes of lists) await askBodies(session, chain, hashes)
    },
  ]
  const hashes = (blocks) => blocks.map((block) => block.hash)

  return [
    headers('headers by number', { start: 1n, amount: 1n }, { start: 0n, amount: 1n }, { start: 1n, amount: 192n }, { start: head, amount: 1n }),
    headers(
      'headers by hash',
      { start: chain.head.hash, amount: 1n },
      { start: chain.genesisHash, amount: 1n },
      { start: middle.hash, amount: 100n },
      { start: UNKNOWN, amount: 1n },
      { start: UNKNOWN, amount: 50n, reverse: true },
    ),
    headers(
      'headers in reverse',
      { start: head, amount: 512n, reverse: true },
      { start: middle.hash, amount: 64n, reverse: true },
      { start: 5n, amount: 100n, reverse: true }, // stops at block 0
      { start: 0n, amount: 3n, reverse: true },
    ),
    headers(
      'headers with skips',
      { start: 1n, amount: 20n, skip: 1n },
      { start: 0n, amount: 128n, skip: 191n }, // the skeleton that older clients ask for
      { start: middle.hash, amount: 10n, skip: 7n },
      { start: head, amount: 30n, skip: 9n, reverse: true },
      { start: middle.hash, amount: 30n, skip: 2n, reverse: true },
      { start: 1n, amount: 5n, skip: head }, // the second would be past the head
      { start: head, amount: 5n, skip: head, reverse: true }, // the second would be before block 0
    ),
    headers(
      'headers past the head',
      { start: head + 1n, amount: 1n },
      { start: head + 1n, amount: 192n },
      { start: head - 2n, amount: 100n }, // the part that is there
      { start: head + 5n, amount: 10n, reverse: true }, // does not begin at a block that is there
    ),
    headers('an amount of 0 headers', { start: 1n, amount: 0n }, { start: chain.head.hash, amount: 0n }, { start: UNKNOWN, amount: 0n }),
    headers(
      'the last number there is',
      { start: U64_MAX, amount: 1n },
      { start: U64_MAX, amount: 10n, reverse: true },
      { start: U64_MAX - 1n, amount: 5n, skip: 1n },
    ),
    headers(
      'amounts over 1,024 headers',
      { start: 0n, amount: 1025n },
      { start: head, amount: 5000n, reverse: true },
      { start: 1n, amount: U64_MAX },
      { start: chain.genesisHash, amount: U64_MAX },
    ),
    [
      'a skip that overflows gives nothing past the first header',
      async (session) => {
        for (const reverse of [false, true]) {
          for (const start of [middle.number, middle.hash]) {
            const answer = await session.headers({ start, amount: 3n, skip: U64_MAX, reverse })
            assert.ok(answer.length <= 1, `${answer.length} headers`)
            for (const header of answer) assertSameBytes(header, middle.header, `header ${middle.number}`)
          }
        }
      },
    ],
    [
      'every header of the chain, in the steps of a client that catches up',
      async (session) => {
        for (let start = chain.first; start <= head; start += 192n) await askHeaders(session, chain, { start, amount: 192n })
      },
    ],
    bodies('bodies by hash', [chain.head.hash], [middle.hash], hashes(chain.blocks.slice(0, 128)), hashes(chain.blocks.slice(-128).reverse())),
    bodies('bodies of unknown blocks', [UNKNOWN], [UNKNOWN, Buffer.alloc(32)], []),
    bodies('bodies of known and unknown blocks together', [UNKNOWN, chain.head.hash, UNKNOWN, middle.hash, UNKNOWN], [middle.hash, UNKNOWN]),
    bodies('many bodies at once', hashes(chain.blocks.slice(0, MANY)), hashes(chain.blocks.slice(-MANY))),
    [
      'every body of the chain',
      async (session) => {
        for (let at = 0; at < chain.blocks.length; ) {
          const got = await askBodies(session, chain, hashes(chain.blocks.slice(at, at + 128)))
          assert.ok(got > 0, `no body at block ${chain.blocks[at].number}`)
          at += got
        }
      },
    ],
    [
      'requests in flight together, each answered under its own id',
      async (session) => {
        const ids = [0n, U64_MAX, 2n ** 32n, 255n]
        const asked = ids.map((id, i) => askHeaders(session, chain, { start: BigInt(i + 1), amount: 10n }, id))
        for (let i = 0; i < 40; i++) {
          const block = chain.blocks[(i * 7) % chain.blocks.length]
          asked.push(i % 2 === 0 ? askBodies(session, chain, [block.hash]) : askHeaders(session, chain, { start: block.hash, amount: 5n }))
        }
        await Promise.all(asked)
      },
    ],
    [
      'Ping is answered with Pong',
      async (session) => {
        await session.ping()
        await session.ping()
      },
    ],
  ]
}

/** The questions to one that has the receipts of the chain. */
export function receiptQuestions(chain) {
  const hashes = chain.blocks.map((block) => block.hash)
  return [
    [
      'receipts by hash',
      async (session) => {
        assert.equal(await askReceipts(session, chain, [chain.head.hash]), 1)
        assert.equal(await askReceipts(session, chain, [chain.genesisHash]), 1, 'the genesis block has an empty list')
        assert.equal(await askReceipts(session, chain, hashes.slice(0, 128)), 128)
        assert.equal(await askReceipts(session, chain, hashes.slice(-128).reverse()), 128)
      },
    ],
    [
      'the first block that is not known ends the receipts',
      async (session) => {
        const known = (answer) => answer.map((got, i) => assertSameBytes(got, chain.block(BigInt(i)).receipts, `receipts of block ${i}`)).length
        assert.equal(known(await session.receipts([hashes[0], hashes[1], UNKNOWN, hashes[2]])), 2)
        assert.equal(known(await session.receipts([UNKNOWN, hashes[0]])), 0)
      },
    ],
    ['more receipts than an answer may have', async (session) => assert.ok((await askReceipts(session, chain, hashes)) > 0)],
    [
      'every receipt of the chain',
      async (session) => {
        for (let at = 0; at < hashes.length; ) {
          const got = await askReceipts(session, chain, hashes.slice(at, at + 200))
          assert.ok(got > 0, `no receipts of block ${chain.blocks[at].number}`)
          at += got
        }
      },
    ],
  ]
}

/** What cairn does not keep: it is taken, or answered with nothing, and the session goes on. */
export function politeQuestions(chain) {
  return [
    [
      'transactions and announcements are taken in silence',
      async (session) => {
        session.send(Code.Transactions, encode([]))
        session.send(Code.NewPooledTransactionHashes, encode([Uint8Array.of(2), [100], [UNKNOWN]]))
        // Blocks it has already: nothing to fetch.
        session.send(Code.NewBlockHashes, encode([[chain.head.hash, chain.head.number]]))
        await askHeaders(session, chain, { start: 1n, amount: 1n })
      },
    ],
    [
      'a request for pooled transactions is answered with none',
      async (session) => assert.equal((await session.request(Code.GetPooledTransactions, [UNKNOWN])).length, 0),
    ],
    [
      'a request for receipts of an unknown block is answered with none',
      async (session) => assert.equal((await session.request(Code.GetReceipts, [UNKNOWN])).length, 0),
    ],
  ]
}

/** Checks the Status that came against the chain: `[68, network, td, head, genesis, [fork hash, fork next]]`. */
export function checkStatus(status, chain) {
  const [version, network, td, head, genesis, forkId] = status
  assert.equal(status.length, 6)
  assert.equal(rlp.number(version), 68n)
  assert.equal(rlp.number(network), chain.networkId)
  assert.equal(rlp.number(td), chain.td, 'total difficulty, that of the genesis block included')
  assertSameBytes(rlp.string(head), chain.head.hash, 'head')
  assertSameBytes(rlp.string(genesis), chain.genesisHash, 'genesis')
  const [hash, next] = rlp.items(forkId)
  const expected = chain.common.forkHash(chain.common.hardfork())
  assert.equal(`0x${Buffer.from(rlp.string(hash)).toString('hex')}`, expected, 'fork hash')
  assert.equal(rlp.number(next), 0n, 'no fork is to come')
}

/** Runs the questions as subtests of `t` on one session, which must be there at the end with nothing sent unasked. */
export async function ask(t, session, chain, list) {
  for (const [name, question] of list) {
    await t.test(name, { timeout: 60_000 }, async () => {
      assert.equal(session.gone, undefined, `the session ended: ${JSON.stringify(session.gone)}`)
      await within(question(session), name, 50_000)
      assert.equal(session.gone, undefined, `the session ended: ${JSON.stringify(session.gone)}`)
    })
  }
  await t.test('nothing was sent unasked', () => {
    assert.deepEqual(session.unasked.map(([code]) => code), [])
  })
}
