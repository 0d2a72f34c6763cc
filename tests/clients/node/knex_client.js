// knex over node-postgres: a query builder with migrations, batches, streams and nested transactions.
'use strict';
const { once } = require('node:events');
const { ADA, BOB, ZOE, ADA_ROW, bulkRows, load, main, said, same, show, url } = require('./steps.js');

// Dates as PostgreSQL prints them.
load('pg').types.setTypeParser(1082, (value) => value);
const knex = load('knex')({ client: 'pg', connection: { connectionString: url }, pool: { min: 1, max: 3 } });

const migrations = {
  getMigrations: async () => ['one', 'two'],
  getMigrationName: (name) => name,
  getMigration: async (name) => ({
    one: {
      up: (db) => db.schema.createTable('visit', (table) => {
        table.increments('id');
        table.integer('person').notNullable().references('people.id').onDelete('cascade').index();
        table.string('reason', 20).notNullable();
        table.timestamp('at').defaultTo('2026-01-01');
      }),
      down: (db) => db.schema.dropTable('visit'),
    },
    two: {
      up: async (db) => {
        await db.schema.alterTable('visit', (table) => { table.string('reason', 40).nullable().alter(); table.index(['person', 'at']); });
        await db(db.raw('visit (person, reason)')).insert(db('people').select('id as person', db.raw("'migrated' as reason")));
      },
      down: (db) => db.schema.alterTable('visit', (table) => table.dropIndex(['person', 'at'])),
    },
  }[name]),
};

const scenario = {
  async insert() {
    await knex('people').insert({ ...ADA_ROW, doc: JSON.stringify(ADA_ROW.doc) });
    same('returning', await knex('people').insert({ id: 2, email: BOB, name: 'Bob\n"kanarie" \\ ?', doc: { kanarie: 1 } }).returning(['id', 'email', 'name']),
      [{ id: 2, email: BOB, name: 'Bob\n"kanarie" \\ ?' }]);
    show(await knex('people').insert([{ id: 3, email: ZOE }, { id: 4, email: 'max.kanarie@example.org', name: '' }], '*'));
    show((await knex('orders').insert([{ id: 10, email: ADA, total: 100 }, { id: 11, email: BOB, total: 200 }])).rowCount);
  },
  async migrate() {
    show(await knex.migrate.latest({ migrationSource: migrations }));
    show(await knex.migrate.currentVersion({ migrationSource: migrations }), await knex.schema.hasTable('visit'), await knex.schema.hasColumn('visit', 'at'));
    show(await knex('visit').select('person', 'reason').orderBy('person'));
  },
  async search() {
    same('first', await knex('people').where({ email: ADA }).first(Object.keys(ADA_ROW)), ADA_ROW);
    const ids = (query) => query.orderBy('id').pluck('id');
    same('in', await ids(knex('people').whereIn('email', [ADA, ZOE])), [1, 3]);
    same('not', await ids(knex('people').whereNot('email', ADA)), [2, 3, 4]);
    same('or', await ids(knex('people').where('email', ADA).orWhere('email', BOB)), [1, 2]);
    same('pair', await ids(knex('people').whereIn(['id', 'email'], [[1, ADA], [2, ADA]])), [1]);
    same('null', await ids(knex('people').whereNull('name')), [3]);
    same('raw', await ids(knex('people').whereRaw('email = any(?)', [[ADA, BOB]])), [1, 2]);
    same('uuid, bigint', await ids(knex('people').where({ token: ADA_ROW.token, big: ADA_ROW.big })), [1]);
    same('exists', await ids(knex('people').whereExists(knex('orders').whereRaw('orders.email = people.email').where('total', '>', 100))), [2]);
    same('subquery', await ids(knex('people').whereIn('email', knex('orders').select('email'))), [1, 2]);
    show(await knex('people as p').join('orders as o', 'o.email', 'p.email').select('p.name', 'o.total').orderBy('o.total'));
    show(await knex('people as p').leftJoin('visit as v', 'v.person', 'p.id').groupBy('p.id', 'p.name').select('p.name').count('v.id as n').orderBy('p.id'));
    show(await knex('people').count('* as n').countDistinct('email as e').first(), await knex('people').distinct('email').pluck('email').then((all) => all.length));
    show(await knex.with('adults', knex('people').whereNotNull('born').select('id', 'name')).select('*').from('adults'));
    show(await knex('people').where('id', 1).select('email as e').unionAll(knex('people').where('id', 2).select('email')));
    show(await knex.raw('select name, ?::text as given from people where email = :email'.replace('?', ':given'), { given: 'x', email: ADA }).then((r) => r.rows));
    show(await knex('people').select(knex.raw('coalesce(name, ?) as name', ['nobody'])).orderBy('id').pluck('name'));
  },
  async update() {
    show(await knex('people').where({ email: ADA }).update({ name: 'Augusta kanarie', salary: '99999999.99', born: '0001-01-01', active: null }));
    same('returning', await knex('people').where({ id: 1 }).update({ blob: Buffer.from("\\'") }, ['blob', 'name', 'salary']),
      [{ blob: Buffer.from("\\'"), name: 'Augusta kanarie', salary: '99999999.99' }]);
    show(await knex('people').where('id', 2).update({ note: knex.ref('id'), email: knex.ref('email') }));
    show(await knex('people as p').updateFrom('orders as o').whereRaw('o.email = p.email').update({ name: 'by order kanarie' }));
  },
  async upsert() {
    const row = { id: 20, email: ADA, name: 'Countess kanarie' };
    same('merge', await knex('people').insert(row).onConflict('email').merge(['name']).returning(['id', 'name']), [{ id: 1, name: 'Countess kanarie' }]);
    same('merge all', await knex('people').insert({ id: 1, email: ADA, name: 'All kanarie' }).onConflict('email').merge().returning('name'), [{ name: 'All kanarie' }]);
    same('new', await knex('people').insert({ id: 21, email: 'new.kanarie@example.org', name: 'New kanarie' }).onConflict('email').merge().returning('id'), [{ id: 21 }]);
    same('ignore', await knex('people').insert(row).onConflict('email').ignore().returning('id'), []);
    same('where', await knex('people').insert(row).onConflict('email').merge({ name: 'never' }).where('people.id', 99).returning('id'), []);
  },
  async bulk() {
    show((await knex.batchInsert('people', bulkRows(100, 500), 120).returning('id')).length);
    show(await knex('people').whereIn('email', bulkRows(100, 400).map((row) => row.email)).count('* as n').first());
    show(await knex('people').where('id', '>=', 590).del());
  },
  async cursor() {
    let rows = 0;
    for await (const row of knex('people').where('id', '>=', 100).orderBy('id').select('id', 'email').stream({ highWaterMark: 7 })) {
      if (row.email !== `bulk${row.id}.kanarie@example.org`) throw new Error(row.email);
      rows++;
    }
    show(rows);
    const stream = knex('people').orderBy('id').select('name').stream();
    show((await once(stream, 'data'))[0]);
    stream.destroy();
  },
  async transaction() {
    await knex.transaction(async (outer) => {
      await outer('people').insert({ id: 60, email: 'tx.kanarie@example.org' });
      await said(outer.transaction((inner) => inner('people').insert({ id: 61, email: 'tx.kanarie@example.org' })));
      same('inside', await outer('people').where('email', 'tx.kanarie@example.org').forUpdate().select('id'), [{ id: 60 }]);
      throw new Error('away');
    }).catch((error) => show(error.message));
    same('rolled back', await knex('people').where('email', 'tx.kanarie@example.org'), []);
  },
  async failures() {
    for (const row of [{ id: 50, email: ADA }, { id: 50 }, { id: 50, email: 'kanarie'.repeat(20) }, { id: 50, email: 'e', small: 40000 }, { id: 50, email: 'e', born: 'kanarie' }]) {
      await said(knex('people').insert(row));
    }
    await said(knex('people').select('nonsense'));
    await said(knex.raw('selec'));
    same('after', await knex('people').where('email', BOB).pluck('id'), [2]);
  },
  async delete() {
    same('returning', await knex('people').where({ email: ZOE }).del(['name']), [{ name: null }]);
    show(await knex.migrate.rollback({ migrationSource: migrations }, true), await knex.schema.hasTable('visit'));
  },
};

const introspect = {
  async columns() {
    for (const table of ['people', 'orders']) {
      show(await knex(table).columnInfo().then((info) => Object.entries(info).map(([name, column]) => [name, column.nullable])));
    }
  },
  async tables() {
    show(await knex('information_schema.columns').where('table_schema', 'public').orderBy('table_name').orderBy('ordinal_position').select('table_name', 'column_name', 'is_nullable'));
    show(await knex.schema.hasTable('people'), await knex.schema.hasColumn('people', 'email'), await knex.schema.hasColumn('people', 'nonsense'));
  },
};

main('knex', scenario, introspect, () => knex.destroy());
