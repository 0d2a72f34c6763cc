// lib/pq: database/sql, text parameters, COPY through prepared statements.
// Usage: go run steps.go pq_client.go URL scenario|introspect VERSION
package main

import (
	"database/sql"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

var db *sql.DB

type querier interface {
	Query(string, ...interface{}) (*sql.Rows, error)
}

func rows(on querier, text string, args ...interface{}) [][]interface{} {
	found, err := on.Query(text, args...)
	must(err)
	defer found.Close()
	names, err := found.Columns()
	must(err)
	all := [][]interface{}{}
	for found.Next() {
		row, places := make([]interface{}, len(names)), make([]interface{}, len(names))
		for i := range row {
			places[i] = &row[i]
		}
		must(found.Scan(places...))
		for i, cell := range row {
			if bytes, ok := cell.([]byte); ok {
				row[i] = string(bytes)
			}
		}
		all = append(all, row)
	}
	must(found.Err())
	return all
}

func ids(on querier, text string, args ...interface{}) []int64 {
	all := []int64{}
	for _, row := range rows(on, text, args...) {
		all = append(all, row[0].(int64))
	}
	return all
}

func exec(text string, args ...interface{}) int64 {
	result, err := db.Exec(text, args...)
	must(err)
	n, err := result.RowsAffected()
	must(err)
	return n
}

func said(err error) {
	var e *pq.Error
	if errors.As(err, &e) {
		show(string(e.Code), e.Constraint, e.Column, e.Table)
	} else if err != nil {
		panic(err)
	} else {
		show("fits")
	}
}

func create() {
	exec("create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text)")
	exec("create index visit_person on visit (person); comment on table visit is 'who came'")
}

func insert() {
	show(exec("insert into people ("+columns+") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
		1, ada, "Ada kanarie", born, "1234.50", 0.1, true, token, seen, woke, -7, 42, bigNumber, blob, `{"kanarie": [1,  2.50]}`, "first"))
	var id int
	var email string
	must(db.QueryRow("insert into people (id, email, name, doc) values ($1, $2, $3, $4) returning id, email", 2, bob, "Bob\n\"kanarie\" \\ $1", []byte(`{"kanarie": 1}`)).Scan(&id, &email))
	show(id, email)
	show(exec("insert into people (id, email, name) values ($1, $2, $3)", 3, zoe, nil))
	show(exec("insert into orders values ($1, $2, $3), (11, $4, 200)", 10, ada, 100, bob))
	show(rows(db, "insert into visit (person, reason) values ($1, $2) returning id", 1, "check"))
}

func search() {
	same("equal", ids(db, "select id from people where email = $1", ada), []int64{1})
	same("literal", ids(db, "select id from people where email = 'ada.kanarie@example.org'"), []int64{1})
	same("in", ids(db, "select id from people where email in ($1, $2) order by id", ada, zoe), []int64{1, 3})
	same("any", ids(db, "select id from people where email = any($1) order by id", pq.Array([]string{ada, bob})), []int64{1, 2})
	same("uuid, int8", ids(db, "select id from people where token = $1 and big = $2", token, bigNumber), []int64{1})
	same("null", ids(db, "select id from people where name is null"), []int64{3})
	prepared, err := db.Prepare("select name from people where email = $1")
	must(err)
	for _, email := range []string{ada, zoe, bob} {
		var name sql.NullString
		must(prepared.QueryRow(email).Scan(&name))
		show(name.String, name.Valid)
	}
	must(prepared.Close())
	show(rows(db, "select * from people order by id"))
	show(rows(db, "select p.name, v.reason from visit v join people p on p.id = v.person where p.email = $1", ada))
	show(rows(db, "select p.name, o.total from people p join orders o using (email) order by o.total"))
	show(rows(db, "select count(*), count(distinct email) from people"))
}

func describe() {
	found, err := db.Query("select p.id, email as mail, born, salary, active, token, seen, blob, doc from people p where email = $1", ada)
	must(err)
	types, err := found.ColumnTypes()
	must(err)
	for _, column := range types {
		length, _ := column.Length()
		precision, scale, _ := column.DecimalSize()
		show(column.Name(), column.DatabaseTypeName(), length, precision, scale, column.ScanType().String())
	}
	must(found.Close())
}

func update() {
	show(exec("update people set name = $1, salary = $2, born = $3, active = $4 where email = $5", "Augusta kanarie", "99999999.99", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), nil, ada))
	show(rows(db, "update people set blob = $1, seen = $2 where id = $3 returning blob, name, salary", []byte("\\'"), seen, 1))
}

func upsert() {
	text := "insert into people (id, email, name) values ($1, $2, $3) on conflict (email) do update set name = excluded.name returning id, name"
	show(rows(db, text, 20, ada, "Countess kanarie"), rows(db, text, 21, "new.kanarie@example.org", "New kanarie"))
	show(exec("insert into people (id, email) values ($1, $2) on conflict do nothing", 22, ada))
}

func many() {
	tx, err := db.Begin()
	must(err)
	defer tx.Rollback()
	into, err := tx.Prepare(pq.CopyIn("people", "id", "email", "name", "born", "blob"))
	must(err)
	numbers, emails, names := bulk(100, 500)
	for i := range numbers {
		_, err = into.Exec(numbers[i], emails[i], names[i], born, blob)
		must(err)
	}
	_, err = into.Exec()
	must(err)
	must(into.Close())
	must(tx.Commit())
	show(rows(db, "select count(*), count(distinct email) from people where email = any($1)", pq.Array(emails)))
	show(rows(db, "select id, email, name, born, blob from people where id = 300"))
	numbers, emails, _ = bulk(800, 5)
	show(exec("insert into people (id, email) select * from unnest($1::int[], $2::text[])", pq.Array(numbers), pq.Array(emails)))
}

func transaction() {
	tx, err := db.Begin()
	must(err)
	defer tx.Rollback()
	_, err = tx.Exec("insert into people (id, email) values ($1, $2)", 60, "tx.kanarie@example.org")
	must(err)
	_, err = tx.Exec("savepoint one")
	must(err)
	_, err = tx.Exec("insert into people (id, email) values ($1, $2)", 61, "tx.kanarie@example.org")
	said(err)
	_, err = tx.Exec("select name from people where id = $1", 60)
	said(err)
	_, err = tx.Exec("rollback to savepoint one")
	must(err)
	same("inside", ids(tx, "select id from people where email = $1 for update", "tx.kanarie@example.org"), []int64{60})
	must(tx.Rollback())
	same("rolled back", ids(db, "select id from people where email = $1", "tx.kanarie@example.org"), []int64{})
}

func failures() {
	for _, one := range [][]interface{}{
		{"insert into people (id, email) values ($1, $2)", 50, ada},
		{"insert into people (id, email) values ($1, $2)", 50, nil},
		{"insert into people (id, email) values ($1, $2)", 50, strings.Repeat("kanarie", 20)},
		{"update people set salary = $1 where id = 1", "100000000"},
		{"update people set small = $1 where id = 1", 40000},
		{"update people set born = $1 where id = 1", "kanarie"},
		{"select nonsense from people where email = $1", ada},
		{"selec"},
		{"select 1/0"},
	} {
		_, err := db.Exec(one[0].(string), one[1:]...)
		said(err)
	}
	same("after", ids(db, "select id from people where email = $1", bob), []int64{2})
}

func remove() {
	show(rows(db, "delete from people where email = $1 returning name", zoe))
	exec("drop table visit")
}

func tables() {
	for _, row := range rows(db, "select table_name, column_name, ordinal_position, is_nullable from information_schema.columns where table_schema = $1 order by 1, 3", "public") {
		show(row...)
	}
}

func description() {
	found, err := db.Query("select * from people limit 0")
	must(err)
	names, err := found.Columns()
	must(err)
	show(names)
	must(found.Close())
}

func main() {
	var err error
	db, err = sql.Open("postgres", os.Args[1]+"?sslmode=disable&timezone=UTC")
	must(err)
	defer db.Close()
	db.SetMaxOpenConns(2)
	runSteps(os.Args[3], []step{{"create", create}, {"insert", insert}, {"search", search}, {"describe", describe}, {"update", update}, {"upsert", upsert}, {"bulk", many}, {"transaction", transaction},
		{"failures", failures}, {"delete", remove}}, []step{{"tables", tables}, {"description", description}}, func() {})
}
