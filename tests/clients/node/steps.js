// What a Node client of the matrix is made of: steps, each of which prints what it got (see matrix.sh).
'use strict';
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { isDeepStrictEqual, inspect } = require('node:util');

const [, , url, mode] = process.argv;
const MODULES = process.env.PGVEIL_NODE_CLIENTS;
const load = createRequire(MODULES + '/');
process.env.TZ = 'UTC';

const ADA = 'ada.kanarie@example.org', BOB = 'bob.kanarie@example.org', ZOE = 'zoë.kanarie@example.org';
const ADA_ROW = {
  id: 1, email: ADA, name: 'Ada kanarie', born: '1815-12-10', salary: '1234.50', score: 0.1, active: true,
  token: '6ba7b810-9dad-11d1-80b4-00c04fd430c8', seen: new Date('2026-03-01T10:30:00.250Z'), small: -7, visits: 42,
  big: '9007199254740993', blob: Buffer.from('00ff10fed1', 'hex'), doc: { kanarie: [1, 2.5] }, note: 'first',
};

const bulkRows = (first, count) => Array.from({ length: count }, (_, i) =>
  ({ id: first + i, email: `bulk${first + i}.kanarie@example.org`, name: `kanarie ${first + i}` }));

const text = (value) => (typeof value === 'string' ? value : inspect(value, { depth: 9, breakLength: Infinity, maxArrayLength: null, sorted: true }));
// Rows of some drivers are more than plain objects.
const bare = (value) => {
  if (Array.isArray(value)) return Array.from(value, bare);
  if (value === null || typeof value !== 'object' || value instanceof Date || Buffer.isBuffer(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, bare(inner)]));
};

const show = (...values) => console.log('   ' + values.map((value) => text(bare(value))).join(' '));

const same = (what, got, expected) => {
  if (!isDeepStrictEqual(bare(got), expected)) throw new Error(`${what}: ${text(bare(got))} is not ${text(expected)}`);
  show(what, got);
};

/** What the server said of a statement that it refuses; `fits` if it does not. */
const said = async (promise) => {
  try {
    await promise;
    show('fits');
  } catch (error) {
    const e = error.driverError ?? error;
    if (!e.code) throw error;
    show(e.code, e.constraint ?? e.constraint_name, e.column ?? e.column_name, e.table ?? e.table_name);
  }
};

/** Runs the steps of the mode that was asked for; a step that fails says how, and the next one starts. */
const main = async (name, scenario, introspect, end) => {
  console.log(`version ${JSON.parse(readFileSync(`${MODULES}/node_modules/${name}/package.json`)).version}`);
  for (const [step, run] of Object.entries(mode === 'scenario' ? scenario : introspect)) {
    console.log(`## ${step}`);
    try {
      await run();
    } catch (error) {
      console.log(`failed: ${error.name}: ${error.message.replace(/\s+/g, ' ').slice(0, 300)}`);
      if (process.env.CLIENTS_TRACE) console.log(error.stack);
    }
  }
  await end();
};

module.exports = { ADA, BOB, ZOE, ADA_ROW, bulkRows, load, main, said, same, show, url };
