// pgx v4: described statements and binary values, or the simple protocol; batches, COPY.
// Usage: go run steps.go pgx_client.go URL scenario|introspect extended|simple VERSION
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
)

var (
	ctx    = context.Background()
	conn   *pgx.Conn
	simple bool
)

func rows(sql string, args ...interface{}) [][]interface{} {
	found, err := conn.Query(ctx, sql, args...)
	must(err)
	return values(found)
}

func values(found pgx.Rows) [][]interface{} {
	defer found.Close()
	all := [][]interface{}{}
	for found.Next() {
		row, err := found.Values()
		must(err)
		for i, cell := range row {
			if number, ok := cell.(pgtype.Numeric); ok {
				row[i], err = number.Value()
				must(err)
			}
		}
		all = append(all, row)
	}
	must(found.Err())
	return all
}

func ids(sql string, args ...interface{}) []int {
	all := []int{}
	for _, row := range rows(sql, args...) {
		all = append(all, int(row[0].(int32)))
	}
	return all
}

func exec(sql string, args ...interface{}) int64 {
	tag, err := conn.Exec(ctx, sql, args...)
	must(err)
	return tag.RowsAffected()
}

func said(err error) {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		show(e.Code, e.ConstraintName, e.ColumnName, e.TableName)
	} else if err != nil {
		show("the driver's own", strings.SplitN(err.Error(), ":", 2)[0])
	} else {
		show("fits")
	}
}

func numeric(text string) pgtype.Numeric {
	var n pgtype.Numeric
	must(n.Set(text))
	return n
}

func create() {
	exec("create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text)")
	_, err := conn.PgConn().Exec(ctx, "create index visit_person on visit (person); comment on table visit is 'who came'").ReadAll()
	must(err)
}

func insert() {
	show(exec("insert into people ("+columns+") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
		1, ada, "Ada kanarie", born, numeric("1234.50"), 0.1, true, token, seen, woke, -7, 42, bigNumber, blob, `{"kanarie": [1,  2.50]}`, "first"))
	var id int
	var email string
	must(conn.QueryRow(ctx, "insert into people (id, email, name, doc) values ($1, $2, $3, $4) returning id, email", 2, bob, "Bob\n\"kanarie\" \\ $1", `{"kanarie": 1}`).Scan(&id, &email))
	show(id, email)
	show(exec("insert into people (id, email, name) values ($1, $2, $3)", 3, zoe, nil))
	show(exec("insert into orders values ($1, $2, $3), (11, $4, 200)", 10, ada, 100, bob))
	show(rows("insert into visit (person, reason) values ($1, $2) returning id", 1, "check"))
}

func search() {
	for i := 0; i < 3; i++ {
		same("equal", ids("select id from people where email = $1", ada), []int{1})
	}
	same("literal", ids("select id from people where email = 'ada.kanarie@example.org'"), []int{1})
	same("in", ids("select id from people where email in ($1, $2) order by id", ada, zoe), []int{1, 3})
	same("any", ids("select id from people where email = any($1) order by id", []string{ada, bob}), []int{1, 2})
	same("any typed", ids("select id from people where email = any($1::text[]) order by id", []string{ada, bob}), []int{1, 2})
	same("uuid, int8", ids("select id from people where token = $1 and big = $2", token, bigNumber), []int{1})
	same("null", ids("select id from people where name is null"), []int{3})
	var r struct {
		id, small, visits int
		email, name, note string
		born, seen, woke  time.Time
		salary            pgtype.Numeric
		score             float64
		active            bool
		token, doc        string
		big               int64
		blob              []byte
	}
	must(conn.QueryRow(ctx, "select "+columns+" from people where id = $1", 1).Scan(&r.id, &r.email, &r.name, &r.born, &r.salary, &r.score, &r.active, &r.token, &r.seen, &r.woke, &r.small, &r.visits, &r.big, &r.blob, &r.doc, &r.note))
	salary, _ := r.salary.Value()
	show(r.id, r.email, r.name, r.born, salary, r.score, r.active, r.token, r.seen, r.woke, r.small, r.visits, r.big, r.blob, r.doc, r.note)
	show(rows("select * from people order by id"))
	show(rows("select p.name, v.reason from visit v join people p on p.id = v.person where p.email = $1", ada))
	show(rows("select p.name, o.total from people p join orders o using (email) order by o.total"))
	show(rows("select count(*), count(distinct email) from people"))
}

func describe() {
	if simple {
		return
	}
	statement, err := conn.Prepare(ctx, "found", "select p.id, email as mail, born, salary, token from people p where email = $1 and big = $2")
	must(err)
	for _, field := range statement.Fields {
		show(string(field.Name), field.DataTypeOID, field.TypeModifier, field.DataTypeSize)
	}
	show(statement.ParamOIDs)
	show(rows("found", ada, bigNumber))
	must(conn.Deallocate(ctx, "found"))
}

func update() {
	show(exec("update people set name = $1, salary = $2, born = $3, active = $4 where email = $5", "Augusta kanarie", numeric("99999999.99"), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), nil, ada))
	show(rows("update people set blob = $1, seen = $2 where id = $3 returning blob, name, salary", []byte("\\'"), seen, 1))
}

func upsert() {
	sql := "insert into people (id, email, name) values ($1, $2, $3) on conflict (email) do update set name = excluded.name returning id, name"
	show(rows(sql, 20, ada, "Countess kanarie"), rows(sql, 21, "new.kanarie@example.org", "New kanarie"))
	show(exec("insert into people (id, email) values ($1, $2) on conflict do nothing", 22, ada))
}

func many() {
	batch := &pgx.Batch{}
	numbers, emails, names := bulk(100, 120)
	for i := range numbers {
		batch.Queue("insert into people (id, email, name) values ($1, $2, $3)", numbers[i], emails[i], names[i])
	}
	batch.Queue("select count(*) from people where email = any($1)", emails)
	results := conn.SendBatch(ctx, batch)
	for range numbers {
		_, err := results.Exec()
		must(err)
	}
	var n int
	must(results.QueryRow().Scan(&n))
	same("batch", n, 120)
	must(results.Close())
	numbers, emails, _ = bulk(500, 5)
	show(exec("insert into people (id, email) select * from unnest($1::int[], $2::text[])", numbers, emails))
}

func copyText() {
	var lines strings.Builder
	_, emails, names := bulk(800, 200)
	for i := range emails {
		lines.WriteString(strings.Join([]string{text(800 + i), emails[i], "\"" + names[i] + "\""}, ",") + "\n")
	}
	tag, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(lines.String()), "copy people (id, email, name) from stdin with (format csv)")
	must(err)
	show(tag.RowsAffected())
	reader, writer := io.Pipe()
	go func() {
		_, err := conn.PgConn().CopyTo(ctx, writer, "copy (select id, email, name from people where id between 800 and 802 order by id) to stdout")
		writer.CloseWithError(err)
	}()
	out, err := io.ReadAll(reader)
	must(err)
	show(string(out))
}

func copyBinary() {
	_, emails, names := bulk(1000, 200)
	n, err := conn.CopyFrom(ctx, pgx.Identifier{"people"}, []string{"id", "email", "name", "born", "visits"}, pgx.CopyFromSlice(200, func(i int) ([]interface{}, error) {
		return []interface{}{1000 + i, emails[i], names[i], born, i}, nil
	}))
	must(err)
	show(n, rows("select id, email, name, born, visits from people where id = 1100"))
}

func transaction() {
	tx, err := conn.Begin(ctx)
	must(err)
	_, err = tx.Exec(ctx, "insert into people (id, email) values ($1, $2)", 60, "tx.kanarie@example.org")
	must(err)
	inner, err := tx.Begin(ctx)
	must(err)
	_, err = inner.Exec(ctx, "insert into people (id, email) values ($1, $2)", 61, "tx.kanarie@example.org")
	said(err)
	must(inner.Rollback(ctx))
	same("inside", ids("select id from people where email = $1 for update", "tx.kanarie@example.org"), []int{60})
	must(tx.Rollback(ctx))
	same("rolled back", ids("select id from people where email = $1", "tx.kanarie@example.org"), []int{})
	tx, err = conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.Serializable})
	must(err)
	_, err = tx.Exec(ctx, "update people set name = $1 where id = 1", "x")
	said(err)
	must(tx.Rollback(ctx))
}

func failures() {
	for _, one := range [][]interface{}{
		{"insert into people (id, email) values ($1, $2)", 50, ada},
		{"insert into people (id, email) values ($1, $2)", 50, nil},
		{"insert into people (id, email) values ($1, $2)", 50, strings.Repeat("kanarie", 20)},
		{"update people set salary = $1 where id = 1", numeric("100000000")},
		{"update people set small = $1 where id = 1", 40000},
		{"update people set born = $1 where id = 1", "kanarie"},
		{"select nonsense from people where email = $1", ada},
		{"selec"},
		{"select 1/0"},
	} {
		_, err := conn.Exec(ctx, one[0].(string), one[1:]...)
		said(err)
	}
	same("after", ids("select id from people where email = $1", bob), []int{2})
}

func remove() {
	show(rows("delete from people where email = $1 returning name", zoe))
	exec("drop table visit")
}

func tables() {
	for _, row := range rows("select table_name::text, column_name::text, ordinal_position::int, is_nullable::text from information_schema.columns where table_schema = $1 order by 1, 3", "public") {
		show(row...)
	}
}

func description() {
	found, err := conn.Query(ctx, "select * from people limit 0")
	must(err)
	for _, field := range found.FieldDescriptions() {
		show(string(field.Name))
	}
	found.Close()
}

func main() {
	config, err := pgx.ParseConfig(os.Args[1])
	must(err)
	simple = os.Args[3] == "simple"
	config.PreferSimpleProtocol = simple
	config.RuntimeParams["timezone"] = "UTC"
	conn, err = pgx.ConnectConfig(ctx, config)
	must(err)
	defer conn.Close(ctx)
	runSteps(os.Args[4], []step{{"create", create}, {"insert", insert}, {"search", search}, {"describe", describe}, {"update", update}, {"upsert", upsert}, {"bulk", many}, {"copy", copyText},
		{"copy_binary", copyBinary}, {"transaction", transaction}, {"failures", failures}, {"delete", remove}},
		[]step{{"tables", tables}, {"description", description}}, func() { _, _ = conn.Exec(ctx, "rollback") })
}
