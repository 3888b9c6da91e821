// @ethereumjs/client as a child process: a whole node that seals or follows, and what it says over JSON-RPC.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DPT } from '@ethereumjs/devp2p'
import { Child, freePort, freshFolder, until, within } from '../../lib/child.mjs'
import { hex, signer } from './executed.js'

const PROGRAM = fileURLToPath(new URL('../node_modules/@ethereumjs/client/dist/esm/bin/cli.js', import.meta.url))
/** Loading its modules alone takes seconds of one core. */
const START_MS = 120_000
/** While it executes a block it answers nobody. */
const ANSWER_MS = 60_000

export class Client extends Child {
  #rpcUrl
  #nextId = 1

  /** `seals`: as the chain's signer. `dials`: an enode that answers discv4 on the UDP port of the same number. */
  static async start({ genesisFile, datadir = freshFolder(), seals = false, dials, loads }) {
    const [port, rpcPort] = [await freePort(), await freePort()]
    const args = [PROGRAM, `--gethGenesis=${genesisFile}`, `--dataDir=${datadir}`, `--port=${port}`, `--rpcPort=${rpcPort}`]
    args.push('--rpc', '--rpcAddr=127.0.0.1', '--discDns=false', '--discV4=false', '--extIP=127.0.0.1', '--no-logFile')
    if (seals) {
      const keyFile = join(freshFolder(), 'key')
      writeFileSync(keyFile, hex(signer))
      args.push('--mine', `--unlock=${keyFile}`)
    }
    if (dials !== undefined) args.push(`--bootnodes=${dials}`)
    if (loads !== undefined) args.push(`--loadBlocksFromRlp=${loads}`)
    // Where it writes its enode once it listens; the folder is named after the genesis file.
    const enodeFile = join(datadir, basename(genesisFile).split('.')[0], 'rlpx')
    rmSync(enodeFile, { force: true })
    const client = new Client(`@ethereumjs/client on port ${port}`, process.execPath, args, { cwd: datadir })
    client.#rpcUrl = `http://127.0.0.1:${rpcPort}`
    const listening = () => {
      if (!client.running) throw new Error(`${client.name} ended at its start:\n${client.log.slice(-4000)}`)
      return existsSync(enodeFile) && readFileSync(enodeFile, 'utf8') !== ''
    }
    await until(listening, `${client.name} listens`, START_MS)
    client.enode = readFileSync(enodeFile, 'utf8')
    await until(() => client.rpc('web3_clientVersion').catch(() => undefined), `${client.name} answers JSON-RPC`, START_MS)
    return client
  }

  async rpc(method, ...params) {
    const answer = JSON.parse(await within(post(this.#rpcUrl, { jsonrpc: '2.0', id: this.#nextId++, method, params }), method, ANSWER_MS))
    if (answer.error !== undefined) throw new Error(`${method}: ${answer.error.message}`)
    return answer.result
  }

  /** `{ number, hash }` of the newest block it has, executed or not. */
  async head() {
    const { number, hash } = await this.rpc('eth_getBlockByNumber', 'latest', false)
    return { number: Number(number), hash }
  }

  async hashAt(number) {
    return (await this.rpc('eth_getBlockByNumber', `0x${number.toString(16)}`, false)).hash
  }

  /** Waits until `number` is executed, which its log tells, and gives how many transactions it has executed until then. */
  async executes(number, ms) {
    return until(
      () => {
        if (!this.running) throw new Error(`${this.name} ended:\n${this.log.slice(-4000)}`)
        let transactions = 0
        for (const [, last, txs] of this.log.matchAll(/Executed blocks count=.* last=(\d+) .*txs=(\d+)/g)) {
          transactions += Number(txs)
          if (Number(last) >= number) return transactions
        }
        return undefined
      },
      `${this.name} executes block ${number}`,
      ms,
    )
  }
}

/** Over a connection of its own each time: its server closes an idle one just when the next request may be on its way. */
function post(url, json) {
  return new Promise((done, failed) => {
    const headers = { 'content-type': 'application/json' }
    const sent = request(url, { method: 'POST', agent: false, headers }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (chunk) => (body += chunk))
      answer.on('end', () => done(body)).on('error', failed)
    })
    sent.on('error', failed).end(JSON.stringify(json))
  })
}

/**
 * Answers discv4 pings with a cairn's key on the UDP port of its number: this client dials nobody whom it has not heard
 * there first. To be dropped once cairn answers them itself.
 */
export async function answersPings(key, port) {
  const dpt = new DPT(key, { endpoint: { address: '127.0.0.1', udpPort: port, tcpPort: port }, shouldFindNeighbours: false })
  const listening = new Promise((done) => dpt.events.once('listening', done))
  dpt.bind(port, '127.0.0.1')
  await within(listening, 'the answerer of pings listens')
  return dpt
}
