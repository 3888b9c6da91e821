// One chain, fetched by cairn, go-ethereum and @ethereumjs/client from the same cairn: time and CPU. tests/interop/catch-up/run
// builds what it needs and starts it.
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Client, answersPings } from '../ethereumjs-client/lib/client.js'
import { executedChain, hex } from '../ethereumjs-client/lib/executed.js'
import { Cairn, dataFolder } from '../lib/cairn.mjs'
import { Child, freshFolder } from '../lib/child.mjs'

/** A thousand blocks in JavaScript, on a machine that does more than this. */
const EXECUTE_MS = 600_000
/** Linux gives CPU times in hundredths of a second. */
const TICKS_PER_S = 100

/** CPU seconds of a process so far, in the kernel too. */
function cpu(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S
}

/** Each starts a program that is to fetch the chain, and ends with the program when it has it, and when that was. */
const clients = {
  'cairn (executes nothing)': async (chain, serving) => {
    const cairn = await Cairn.start(await dataFolder({ genesisFile: chain.genesisFile }), { bootnodes: [serving.enode] })
    const [, time] = await cairn.says(new RegExp(`^(\\S+) .*Imported new chain segment number=${chain.blocks} `, 'm'), EXECUTE_MS)
    return [cairn, Date.parse(time)]
  },
  'geth 1.17.5': async (chain, serving) => {
    Object.assign(process.env, { FETCH_GENESIS: chain.genesisFile, FETCH_FROM: serving.enode, FETCH_HEAD: chain.head })
    const geth = new Child('geth', process.env.GETH_BIN, ['-test.run', '^TestGethFetches$', '-test.v'])
    const [, time] = await geth.says(/^fetched at (\d+)$/m, EXECUTE_MS)
    return [geth, Number(time)]
  },
  '@ethereumjs/client 0.10.5': async (chain, serving) => {
    const client = await Client.start({ genesisFile: chain.genesisFile, dials: serving.enode })
    await client.executes(chain.blocks, EXECUTE_MS)
    return [client, Date.now()]
  },
}

async function measure(name, chain, serving) {
  const [before, started] = [cpu(serving.process.pid), Date.now()]
  const [client, fetched] = await clients[name](chain, serving)
  const seen = {
    client: name,
    seconds: (fetched - started) / 1000,
    cpu_s: cpu(client.process.pid),
    cairn_cpu_s: cpu(serving.process.pid) - before,
  }
  await client.stop('SIGKILL')
  return seen
}

const { values } = parseArgs({ options: { blocks: { type: 'string', default: '300' }, json: { type: 'boolean', default: false } } })
const folder = freshFolder()
const chain = await executedChain({
  blocks: Number(values.blocks),
  file: join(folder, 'chain.rlp'),
  genesisFile: join(folder, 'genesis.json'),
})
const key = randomBytes(32)
const keyFile = join(folder, 'nodekey')
writeFileSync(keyFile, hex(key), { mode: 0o600 })
const serving = await Cairn.start(await dataFolder(chain), { args: ['--nodekey', keyFile] })
const answerer = await answersPings(key, serving.port)

const seen = []
for (const name of Object.keys(clients)) seen.push(await measure(name, chain, serving))
answerer.destroy()
await serving.stop()
if (values.json) {
  console.log(JSON.stringify({ blocks: chain.blocks, transactions: chain.transactions, clients: seen }))
} else {
  console.log(`${chain.blocks} blocks with ${chain.transactions} transactions, from the start of the program to the head:\n`)
  console.log('| fetched from cairn by | seconds | CPU s | CPU s of that cairn |\n| --- | ---: | ---: | ---: |')
  for (const { client, seconds, cpu_s, cairn_cpu_s } of seen) {
    console.log(`| ${client} | ${seconds.toFixed(2)} | ${cpu_s.toFixed(2)} | ${cairn_cpu_s.toFixed(2)} |`)
  }
}
process.exit(0)
