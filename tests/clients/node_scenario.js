// The scenario for node-postgres: parameters without types, named statements, portals, COPY streams.
// Usage: node node_scenario.js URL
'use strict';
const assert = require('node:assert/strict');
const { createRequire } = require('node:module');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');

const load = createRequire(process.env.PGVEIL_NODE_CLIENTS + '/');
const { Client, types } = load('pg');
const Cursor = load('pg-cursor');
const { from: copyFrom, to: copyTo } = load('pg-copy-streams');

const url = process.argv[2];
// Dates and times as PostgreSQL prints them: a JavaScript Date would hide a wrong offset.
for (const oid of [1082, 1114, 1184, 114]) types.setTypeParser(oid, (value) => value);

const same = (step, rows, expected) => {
  assert.deepEqual(rows, expected, step);
  console.log(`== ${step}`, JSON.stringify(rows));
};

async function main() {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query("set timezone = 'UTC'");
  const run = async (text, values) => (await client.query({ text, values, rowMode: 'array' })).rows;
  const fails = async (step, code, text, values) => {
    await assert.rejects(client.query(text, values), (e) => e.code === code || assert.fail(`${step}: ${e.code} ${e.message}`));
    console.log(`== ${step}: ${code}`);
  };
  const ada = 'ada.kanarie@example.org';
  const token = '6ba7b810-9dad-11d1-80b4-00c04fd430c8';

  await run(
    `insert into people (id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
    [1, ada, 'Ada kanarie', '1815-12-10', '1234.50', 0.1, true, token, '2026-03-01T12:30:00.25+02:00', '2026-03-01 06:15', -7, 42,
      '9007199254740993', Buffer.from('00ff10fed1', 'hex'), '{"kanarie": [1,  2.50]}', 'first']);
  for (const row of [[2, 'bob.kanarie@example.org', 'Bob\n"kanarie" \\', '1999-02-28'],
    [3, 'zoë.kanarie@example.org', 'Zoë kanarie 李', null], [4, 'max.kanarie@example.org', '', '9999-12-31']]) {
    await client.query({ name: 'insert', text: 'insert into people (id, email, name, born) values ($1, $2, $3, $4)', values: row });
  }
  await run('insert into orders values ($1, $2, $3)', [10, ada, 100]);

  same('search', await run('select id from people where email = $1', [ada]), [[1]]);
  same('nobody', await run('select id from people where email = $1', ['nobody.kanarie@example.org']), []);
  same('literal', await run(`select id from people where email = '${ada}'`), [[1]]);
  same('reversed', await run('select id from people where $1 = email', ['bob.kanarie@example.org']), [[2]]);
  same('in', await run('select id from people where email in ($1, $2) order by id', [ada, 'zoë.kanarie@example.org']), [[1], [3]]);
  same('any', await run('select id from people where email = any($1) order by id', [[ada, 'max.kanarie@example.org']]), [[1], [4]]);
  same('uuid', await run('select id from people where token = $1', [token.toUpperCase()]), [[1]]);
  same('cast', await run('select id from people where email = $1::varchar', [ada]), [[1]]);
  same('null', await run('select id from people where born is null'), [[3]]);

  const columns = 'id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note';
  const all = [1, ada, 'Ada kanarie', '1815-12-10', '1234.50', 0.1, true, token, '2026-03-01 10:30:00.25+00', '2026-03-01 06:15:00',
    -7, 42, '9007199254740993', Buffer.from('00ff10fed1', 'hex'), '{"kanarie": [1,  2.50]}', 'first'];
  const read = await client.query({ text: `select ${columns} from people where id = $1`, values: [1], rowMode: 'array' });
  same('read', read.rows, [all]);
  console.log('== types', JSON.stringify(read.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeSize, f.dataTypeModifier])));
  // pg 8 reads binary cells as UTF-8 and only in object rows: numbers of small bytes and texts survive that.
  const binary = await client.query({ text: 'select id, email, name, active, visits, note from people where email = $1', values: [ada], binary: true });
  same('binary', binary.rows, [{ id: 1, email: ada, name: 'Ada kanarie', active: true, visits: 42, note: 'first' }]);
  const bytes = await client.query({ text: 'select born, salary, score, token, seen, woke, small, big, blob, doc from people where id = $1', values: [1],
    binary: true, types: { getTypeParser: () => (value) => value.toString('hex') } });
  console.log('== binary bytes', JSON.stringify(bytes.rows), JSON.stringify(bytes.fields.map((f) => [f.name, f.dataTypeID, f.format])));
  // Plain strings and objects that the statement casts.
  same('cast strings', await run(`update people set born = $1::date, salary = $2::numeric, doc = $3::json, seen = $4::timestamptz, big = $5::bigint
      where token = $6::uuid and email = $7::text returning born, salary, doc, big`,
    ['1815-12-10', '1234.5', { kanarie: 7 }, '2026-03-01 10:30:00.25+00', '9007199254740993', token.toUpperCase(), ada]),
  [['1815-12-10', '1234.50', '{"kanarie":7}', '9007199254740993']]);
  same('names', await run('select name from people order by id'), [['Ada kanarie'], ['Bob\n"kanarie" \\'], ['Zoë kanarie 李'], ['']]);
  same('join', await run('select p.name, o.total from people p join orders o on o.email = p.email'), [['Ada kanarie', 100]]);

  same('update', await run('update people set name = $1, visits = $2 where email = $3 returning name, visits', ['Augusta kanarie', null, ada]),
    [['Augusta kanarie', null]]);
  const upsert = `insert into people (id, email, name) values ($1, $2, $3)
    on conflict (email) do update set name = excluded.name, note = 'upserted' returning id, name, note`;
  same('upsert', await run(upsert, [20, ada, 'Countess kanarie']), [[1, 'Countess kanarie', 'upserted']]);
  same('upsert new', await run(upsert, [21, 'new.kanarie@example.org', 'New kanarie']), [[21, 'New kanarie', null]]);

  let text = '';
  for (let i = 100; i < 400; i++) text += `${i},bulk${i}.kanarie@example.org,"kanarie, ${i}",\n`;
  await pipeline(Readable.from([text.slice(0, 5000), text.slice(5000)]), client.query(copyFrom('copy people (id, email, name, born) from stdin (format csv)')));
  const chunks = [];
  await pipeline(client.query(copyTo('copy (select id, email, name from people where id between 100 and 102 order by id) to stdout')), async (source) => {
    for await (const chunk of source) chunks.push(chunk);
  });
  same('copy', Buffer.concat(chunks).toString(), [100, 101, 102].map((i) => `${i}\tbulk${i}.kanarie@example.org\tkanarie, ${i}\n`).join(''));

  const cursor = client.query(new Cursor('select id, email from people where id >= $1 order by id', [100], { rowMode: 'array' }));
  same('cursor', [...await cursor.read(2), ...await cursor.read(1)], [100, 101, 102].map((i) => [i, `bulk${i}.kanarie@example.org`]));
  await cursor.close();

  const many = [];
  for (let i = 100; i < 150; i++) many.push(run('select name from people where email = $1', [`bulk${i}.kanarie@example.org`]));
  same('queued', (await Promise.all(many)).map((rows) => rows[0][0]), Array.from({ length: 50 }, (_, i) => `kanarie, ${100 + i}`));

  const insert = 'insert into people (id, email) values ($1, $2)';
  await fails('duplicate', '23505', insert, [50, ada]);
  await fails('null', '23502', insert, [50, null]);
  await fails('too long', '22001', insert, [50, 'kanarie'.repeat(20)]);
  await fails('not a date', '22007', 'update people set born = $1 where id = 1', ['kanarie']);
  await fails('not a number', '22P02', 'update people set visits = $1 where id = 1', ['kanarie']);
  same('after errors', await run('select id from people where email = $1', [ada]), [[1]]);

  await run('begin');
  await run(insert, [60, 'tx.kanarie@example.org']);
  await fails('duplicate in transaction', '23505', insert, [61, 'tx.kanarie@example.org']);
  await fails('failed transaction', '25P02', 'select name from people where id = $1', [60]);
  await run('rollback');
  same('rolled back', await run('select id from people where email = $1', ['tx.kanarie@example.org']), []);

  same('delete', await run('delete from people where email = $1 returning name', ['bob.kanarie@example.org']), [['Bob\n"kanarie" \\']]);
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
