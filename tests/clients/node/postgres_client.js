// postgres.js: every statement prepared and described first, types inferred from what the server describes, pipelining.
'use strict';
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');
const { ADA, BOB, ZOE, ADA_ROW, bulkRows, load, main, said, same, show, url } = require('./steps.js');

const plain = { to: 25, from: [1082], serialize: (value) => value, parse: (value) => value };
const sql = load('postgres')(url, { max: 2, types: { plain }, onnotice: () => {} });
const rows = async (query) => Array.from(await query, (row) => ({ ...row }));

const scenario = {
  async create() {
    await sql`create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text)`;
    await sql.unsafe("create index visit_person on visit (person); comment on table visit is 'who came'");
  },
  async insert() {
    await sql`insert into people ${sql({ ...ADA_ROW, doc: sql.json(ADA_ROW.doc) })}`;
    same('returning', await rows(sql`insert into people (id, email, name, doc) values (${2}, ${BOB}, ${'Bob\n"kanarie" \\ $1'}, ${sql.json({ kanarie: 1 })}) returning id, email, name`),
      [{ id: 2, email: BOB, name: 'Bob\n"kanarie" \\ $1' }]);
    show(await rows(sql`insert into people ${sql([{ id: 3, email: ZOE, name: null }, { id: 4, email: 'max.kanarie@example.org', name: '' }])} returning *`));
    show((await sql`insert into orders ${sql([{ id: 10, email: ADA, total: 100 }, { id: 11, email: BOB, total: 200 }])}`).count);
    show(await rows(sql`insert into visit (person, reason) values (${1}, 'check') returning id`));
  },
  async search() {
    for (let i = 0; i < 3; i++) same('all', await rows(sql`select ${sql(Object.keys(ADA_ROW))} from people where email = ${ADA}`), [ADA_ROW]);
    const ids = async (query) => (await query).map((row) => row.id);
    same('in', await ids(sql`select id from people where email in ${sql([ADA, ZOE])} order by id`), [1, 3]);
    same('any', await ids(sql`select id from people where email = any(${[ADA, BOB]}) order by id`), [1, 2]);
    same('any typed', await ids(sql`select id from people where email = any(${sql.array([ADA, BOB])}::text[]) order by id`), [1, 2]);
    same('not', await ids(sql`select id from people where email <> ${ADA} order by id`), [2, 3, 4]);
    same('uuid, bigint', await ids(sql`select id from people where token = ${ADA_ROW.token} and big = ${ADA_ROW.big}`), [1]);
    same('bigint', await ids(sql`select id from people where big = ${9007199254740993n}`), [1]);
    same('date', await ids(sql`select id from people where born is not null and seen is not null`), [1]);
    const filter = (email) => (email ? sql`where email = ${email}` : sql``);
    same('fragment', await ids(sql`select id from people ${filter(BOB)}`), [2]);
    show(await rows(sql`select p.name, o.total from people p join orders o using (email) order by o.total`));
    show(await rows(sql`select p.name, v.reason from visit v join people p on p.id = v.person where p.email = ${ADA}`));
    show(await rows(sql`select count(*)::int, count(distinct email)::int as e from people`), (await sql`select email from people where id = ${1}`.values()).map(([email]) => email));
    show((await sql`select * from people where id = 1`).columns.map((column) => [column.name, column.type]));
    const { types, columns } = await sql`select id, name, born from people where email = ${ADA} and big = ${'1'}`.describe();
    show(types, columns.map((column) => [column.name, column.type]));
    show(await rows(sql`select id, name from people where email = 'ada.kanarie@example.org'`.simple()));
    show(await rows(sql.unsafe(`select id, name from people where email = '${ADA}'`)));
    show(await rows(sql.unsafe('select id from people where email = $1', [ADA], { prepare: true })));
  },
  async update() {
    show((await sql`update people set ${sql({ name: 'Augusta kanarie', salary: '99999999.99', born: '0001-01-01', active: null })} where email = ${ADA}`).count);
    same('returning', await rows(sql`update people set blob = ${Buffer.from("\\'")} where id = ${1} returning blob, name, salary`),
      [{ blob: Buffer.from("\\'"), name: 'Augusta kanarie', salary: '99999999.99' }]);
    const values = [['1', 'one kanarie'], ['2', 'two kanarie']];
    show(await rows(sql`update people set name = data.name from (values ${sql(values)}) as data (id, name) where people.id = data.id::int returning people.id, people.name`));
  },
  async upsert() {
    const put = (id, email, name) => rows(sql`insert into people (id, email, name) values (${id}, ${email}, ${name}) on conflict (email) do update set name = excluded.name returning id, name`);
    same('old', await put(20, ADA, 'Countess kanarie'), [{ id: 1, name: 'Countess kanarie' }]);
    same('new', await put(21, 'new.kanarie@example.org', 'New kanarie'), [{ id: 21, name: 'New kanarie' }]);
    show((await sql`insert into people (id, email) values (22, ${ADA}) on conflict do nothing`).count);
  },
  async bulk() {
    show((await sql`insert into people ${sql(bulkRows(100, 500))}`).count);
    const found = await Promise.all(bulkRows(100, 50).map(({ email }) => sql`select name from people where email = ${email}`));
    same('pipelined', found.map(([row]) => row.name), bulkRows(100, 50).map(({ name }) => name));
    const lines = bulkRows(800, 200).map(({ id, email, name }) => `${id},${email},"${name}"\n`);
    await pipeline(Readable.from(lines), await sql`copy people (id, email, name) from stdin with (format csv)`.writable());
    let out = '';
    for await (const chunk of await sql`copy (select id, email, name from people where id between 800 and 802 order by id) to stdout`.readable()) out += chunk;
    show(out);
  },
  async cursor() {
    let got = 0;
    await sql`select id, email from people where id >= ${100} order by id`.cursor(37, (chunk) => { got += chunk.length; });
    show(got);
    for await (const [row] of sql`select name from people where email = ${ADA}`.cursor(1)) show(row);
    await sql`select id, name from people where id < 3 order by id`.forEach((row) => show(row));
  },
  async transaction() {
    await sql.begin(async (tx) => {
      await tx`insert into people (id, email) values (60, ${'tx.kanarie@example.org'})`;
      await said(tx.savepoint((inner) => inner`insert into people (id, email) values (61, ${'tx.kanarie@example.org'})`));
      same('inside', await rows(tx`select id from people where email = ${'tx.kanarie@example.org'} for update`), [{ id: 60 }]);
      throw new Error('away');
    }).catch((error) => show(error.message));
    same('rolled back', await rows(sql`select id from people where email = ${'tx.kanarie@example.org'}`), []);
    show(await sql.begin('read only', async (tx) => said(tx`update people set name = ${'x'} where id = 1`)).catch((error) => error.code));
    show((await sql.begin((tx) => [tx`select name from people where id = 21`, tx`select email from people where id = 21`])).map((result) => [...result]));
  },
  async failures() {
    for (const row of [{ id: 50, email: ADA }, { id: 50, email: null }, { id: 50, email: 'kanarie'.repeat(20) }, { id: 50, email: 'e', small: 40000 }, { id: 50, email: 'e', born: 'kanarie' }]) {
      await said(sql`insert into people ${sql(row)}`);
    }
    await said(sql`select nonsense from people`);
    await said(sql`selec`);
    same('after', await rows(sql`select id from people where email = ${BOB}`), [{ id: 2 }]);
  },
  async delete() {
    same('returning', await rows(sql`delete from people where email = ${ZOE} returning name`), [{ name: null }]);
    await sql`drop table visit`;
  },
};

const introspect = {
  async tables() {
    show(await rows(sql`select table_name, column_name, ordinal_position, is_nullable from information_schema.columns where table_schema = ${'public'} order by 1, 3`));
  },
  async description() {
    show((await sql`select * from people limit 0`).columns.map((column) => column.name));
  },
};

main('postgres', scenario, introspect, () => sql.end());
