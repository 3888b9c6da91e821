// Gives a data folder of @ethereumjs/client a node key, where the client looks for it: `node keep-node-key.js FOLDER KEY`, FOLDER being
// `DATADIR/NAME OF THE GENESIS FILE` and KEY 64 hex digits. It draws one at each start and means to keep it, and does not: its database answers
// `undefined` for what is missing, where the client waits for an error. So it would have another enode URL at each start.
import { Config } from '@ethereumjs/client/dist/esm/src/config.js'

const db = Config.getConfigDB(process.argv[2])
await db.put('config:client_key', Uint8Array.from(Buffer.from(process.argv[3], 'hex')), { keyEncoding: 'utf8', valueEncoding: 'view' })
await db.close()
