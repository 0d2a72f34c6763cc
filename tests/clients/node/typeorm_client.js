// TypeORM over node-postgres: entities, repositories, query builder, migrations, relations.
'use strict';
const { ADA, BOB, ZOE, ADA_ROW, bulkRows, load, main, said, same, show, url } = require('./steps.js');

load('reflect-metadata');
const { Between, DataSource, EntitySchema, In, IsNull, MoreThan, Not } = load('typeorm');
load('pg').types.setTypeParser(1082, (value) => value);

const column = (type, options = {}) => ({ type, nullable: true, ...options });
const Person = new EntitySchema({
  name: 'Person', tableName: 'people',
  columns: {
    id: { type: 'int', primary: true }, email: { type: 'varchar', length: 80, unique: true }, name: column('text'), born: column('date'),
    salary: column('numeric', { precision: 10, scale: 2 }), score: column('float8'), active: column('boolean'), token: column('uuid'),
    seen: column('timestamptz'), small: column('smallint'), visits: column('int'), big: column('bigint'), blob: column('bytea'),
    doc: column('json'), note: column('text'),
  },
  relations: { stays: { type: 'one-to-many', target: 'Visit', inverseSide: 'person' } },
});
const Order = new EntitySchema({
  name: 'Order', tableName: 'orders',
  columns: { id: { type: 'int', primary: true }, email: { type: 'varchar', length: 80 }, total: column('int') },
});
const Visit = new EntitySchema({
  name: 'Visit', tableName: 'visit',
  columns: { id: { type: 'int', primary: true, generated: 'increment' }, reason: column('varchar', { length: 40 }) },
  relations: { person: { type: 'many-to-one', target: 'Person', joinColumn: { name: 'person' }, inverseSide: 'stays', onDelete: 'CASCADE' } },
});

class Visits1700000000000 {
  async up(runner) {
    const { Table, TableIndex } = load('typeorm');
    await runner.createTable(new Table({
      name: 'visit',
      columns: [{ name: 'id', type: 'serial', isPrimary: true }, { name: 'person', type: 'int' }, { name: 'reason', type: 'varchar', length: '20' }],
      foreignKeys: [{ columnNames: ['person'], referencedTableName: 'people', referencedColumnNames: ['id'], onDelete: 'CASCADE' }],
    }));
    await runner.createIndex('visit', new TableIndex({ name: 'visit_person', columnNames: ['person'] }));
  }

  async down(runner) { await runner.dropTable('visit'); }
}

class Reason1700000000001 {
  async up(runner) {
    const { TableColumn } = load('typeorm');
    const wider = new TableColumn({ name: 'reason', type: 'varchar', length: '40', isNullable: true });
    await runner.changeColumn('visit', 'reason', wider);
    await runner.query("insert into visit (person, reason) select id, 'migrated' from people where email = $1", [ADA]);
  }

  async down(runner) { await runner.query('update visit set reason = left(reason, 20)'); }
}

const source = new DataSource({ type: 'postgres', url, entities: [Person, Order, Visit], migrations: [Visits1700000000000, Reason1700000000001], poolSize: 3 });
const people = () => source.getRepository('Person');
const keys = Object.keys(ADA_ROW);
const ids = async (where) => (await people().find({ where, order: { id: 'ASC' }, select: { id: true } })).map((row) => row.id);

const scenario = {
  async insert() {
    show(await people().save(people().create(ADA_ROW)).then((saved) => saved.id));
    show((await people().insert({ id: 2, email: BOB, name: 'Bob\n"kanarie" \\ $1', doc: { kanarie: 1 } })).identifiers);
    show(await people().save([{ id: 3, email: ZOE }, { id: 4, email: 'max.kanarie@example.org', name: '' }]));
    show((await source.createQueryBuilder().insert().into('Order').values([{ id: 10, email: ADA, total: 100 }, { id: 11, email: BOB, total: 200 }]).returning('*').execute()).raw);
  },
  async migrate() {
    show((await source.runMigrations()).map((migration) => migration.name));
    show(await source.getRepository('Visit').find({ relations: { person: true }, select: { id: true, reason: true, person: { id: true, email: true } } }));
  },
  async search() {
    same('all', await people().findOne({ where: { email: ADA } }), ADA_ROW);
    same('in', await ids({ email: In([ADA, ZOE]) }), [1, 3]);
    same('not', await ids({ email: Not(ADA) }), [2, 3, 4]);
    same('or', await ids([{ email: ADA }, { email: BOB }]), [1, 2]);
    same('null', await ids({ name: IsNull(), id: MoreThan(0) }), [3]);
    same('between', await ids({ id: Between(2, 3) }), [2, 3]);
    same('uuid, bigint', await ids({ token: ADA_ROW.token, big: ADA_ROW.big }), [1]);
    show(await people().findAndCount({ where: { email: In([ADA, BOB]) }, order: { id: 'DESC' }, take: 1, select: { id: true, name: true } }));
    show(await people().existsBy({ email: ADA }), await people().countBy({ email: BOB }), (await people().findOneByOrFail({ email: BOB })).name);
    show(await people().find({ relations: { stays: true }, where: { email: ADA }, select: { id: true, email: true, stays: true } }));
    show(await people().createQueryBuilder('p').leftJoinAndSelect('p.stays', 's').where('p.email = :email', { email: ADA }).orderBy('p.id').take(1).getMany().then((all) => all.map((p) => [p.name, p.stays])));
    show(await people().createQueryBuilder('p').select('p.name', 'name').addSelect('o.total', 'total').innerJoin('Order', 'o', 'o.email = p.email').orderBy('o.total').getRawMany());
    show(await people().createQueryBuilder('p').leftJoin('p.stays', 's').select(['p.id', 'p.name']).addSelect('count(s.id)', 'n').groupBy('p.id').addGroupBy('p.name').orderBy('p.id').getRawMany());
    show(await people().createQueryBuilder('p').where((q) => `p.email in ${q.subQuery().select('o.email').from('Order', 'o').where('o.total > :least').getQuery()}`).setParameter('least', 100).getMany().then((all) => all.map((p) => p.id)));
    show(await source.query('select id, name from people where email = any($1) order by id', [[ADA, BOB]]));
  },
  async update() {
    show((await people().update({ email: ADA }, { name: 'Augusta kanarie', salary: '99999999.99', born: '0001-01-01', active: null })).affected);
    const ada = await people().findOneByOrFail({ id: 1 });
    Object.assign(ada, { name: 'saved kanarie', blob: Buffer.from("\\'"), doc: { kanarie: 'new' }, visits: 43 });
    await people().save(ada);
    same('saved', await people().findOneByOrFail({ email: ADA }), { ...ADA_ROW, name: 'saved kanarie', salary: '99999999.99', born: '0001-01-01', active: null, blob: Buffer.from("\\'"), doc: { kanarie: 'new' }, visits: 43 });
    show(await people().preload({ id: 2, name: 'preloaded kanarie' }).then((bob) => people().save(bob)).then((bob) => [bob.name, bob.email]));
    show((await people().createQueryBuilder().update().set({ name: () => 'null' }).where('id = :id', { id: 99 }).returning(['id', 'name']).execute()).raw);
  },
  async upsert() {
    await people().upsert([{ id: 1, email: ADA, name: 'Countess kanarie' }, { id: 21, email: 'new.kanarie@example.org', name: 'New kanarie' }], ['email']);
    show(await people().find({ where: { email: In([ADA, 'new.kanarie@example.org']) }, order: { id: 'ASC' }, select: { id: true, name: true } }));
    show((await people().createQueryBuilder().insert().values({ id: 22, email: ADA, name: 'or kanarie' }).orUpdate(['name'], ['email']).returning(['id', 'name']).execute()).raw);
    show((await people().createQueryBuilder().insert().values({ id: 22, email: ADA }).orIgnore().returning('id').execute()).raw);
  },
  async bulk() {
    show((await people().insert(bulkRows(100, 500))).identifiers.length);
    show((await people().save(bulkRows(700, 60), { chunk: 25 })).length, await people().countBy({ email: In(bulkRows(100, 400).map((row) => row.email)) }));
    show((await people().delete({ id: MoreThan(589) })).affected);
  },
  async transaction() {
    await source.transaction(async (outer) => {
      await outer.insert('Person', { id: 60, email: 'tx.kanarie@example.org' });
      await said(outer.transaction((inner) => inner.insert('Person', { id: 61, email: 'tx.kanarie@example.org' })));
      show((await outer.getRepository('Person').findOne({ where: { email: 'tx.kanarie@example.org' }, lock: { mode: 'pessimistic_write' } })).id);
      throw new Error('away');
    }).catch((error) => show(error.message));
    same('rolled back', await ids({ email: 'tx.kanarie@example.org' }), []);
  },
  async failures() {
    for (const row of [{ id: 50, email: ADA }, { id: 50 }, { id: 50, email: 'kanarie'.repeat(20) }, { id: 50, email: 'e', small: 40000 }, { id: 50, email: 'e', born: 'kanarie' }]) {
      await said(people().insert(row));
    }
    await said(source.query('select nonsense from people'));
    same('after', await ids({ email: BOB }), [2]);
  },
  async delete() {
    const zoe = await people().findOneByOrFail({ email: ZOE });
    show((await people().remove(zoe)).name);
    show((await people().createQueryBuilder().delete().where('email = :email', { email: BOB }).returning(['id', 'name']).execute()).raw);
    await source.undoLastMigration();
    await source.undoLastMigration();
    show(await source.createQueryRunner().hasTable('visit'));
  },
};

const shape = (table) => [table.name.split('.').pop(), table.columns.map((c) => [c.name, c.isNullable, c.isPrimary]), table.uniques.map((u) => u.columnNames), table.foreignKeys.map((f) => f.columnNames)];
const introspect = {
  async tables() {
    const runner = source.createQueryRunner();
    show((await runner.getTables(['people', 'orders'])).map(shape).sort());
    show(await runner.hasColumn('people', 'email'), await runner.hasTable('people'));
    await runner.release();
  },
  // What `synchronize` would do to the tables.
  async schema_log() {
    const sql = await source.driver.createSchemaBuilder().log();
    show(sql.upQueries.map((query) => query.query).filter((query) => !query.includes('visit')));
  },
};

source.initialize().then(() => main('typeorm', scenario, introspect, () => source.destroy()));
