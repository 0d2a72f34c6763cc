// node-postgres, whose scenario is that of `make test`, reading the catalog.
'use strict';
const { load, main, show, url } = require('./steps.js');

const { Client } = load('pg');
const client = new Client({ connectionString: url });

const introspect = {
  async tables() {
    const sql = 'select table_name, column_name, ordinal_position, is_nullable from information_schema.columns where table_schema = $1 order by 1, 3';
    for (const row of (await client.query({ text: sql, values: ['public'], rowMode: 'array' })).rows) show(row);
  },
  async description() {
    for (const query of ['select * from people limit 0', { name: 'named', text: 'select id, email as mail, born, doc from people where id = $1', values: [1] }]) {
      show((await client.query(query)).fields.map((field) => [field.name, field.dataTypeID, field.dataTypeSize, field.dataTypeModifier, field.columnID]));
    }
  },
};

client.connect().then(() => main('pg', {}, introspect, () => client.end()));
