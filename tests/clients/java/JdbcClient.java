// pgjdbc: the extended protocol with prepared statements and binary cells, or the simple one. Prints what matrix.sh compares.
// Usage: java -cp postgresql.jar JdbcClient.java URL scenario|introspect extended|simple|cached

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URI;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

public class JdbcClient {
  static final String ADA = "ada.kanarie@example.org", BOB = "bob.kanarie@example.org", ZOE = "zoë.kanarie@example.org";
  static final UUID TOKEN = UUID.fromString("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  static final OffsetDateTime SEEN = OffsetDateTime.parse("2026-03-01T10:30:00.25Z");
  static final LocalDateTime WOKE = LocalDateTime.parse("2026-03-01T06:15");
  static final LocalDate BORN = LocalDate.parse("1815-12-10");
  static final long BIG = 9007199254740993L;
  static final byte[] BLOB = {0, -1, 16, -2, -47};
  static final String COLUMNS = "id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note";
  static Connection connection;
  static boolean simple;

  interface Body { void run() throws Exception; }

  static void step(String name, Body body) throws SQLException {
    System.out.println("## " + name);
    try {
      body.run();
    } catch (Exception | AssertionError error) {
      System.out.println("failed: " + error.getClass().getSimpleName() + ": " + String.valueOf(error.getMessage()).replaceAll("\\s+", " "));
      if (System.getenv("CLIENTS_TRACE") != null) error.printStackTrace(System.out);
    }
    if (!connection.getAutoCommit()) connection.rollback();
    connection.setAutoCommit(true);
  }

  static void show(Object... values) {
    StringJoiner line = new StringJoiner(" ", "   ", "");
    for (Object value : values) line.add(text(value));
    System.out.println(line);
  }

  static String text(Object value) {
    if (value instanceof byte[] bytes) return HexFormat.of().formatHex(bytes);
    if (value instanceof int[] array) return Arrays.toString(array);
    if (value instanceof Object[] array) return Arrays.deepToString(array);
    return String.valueOf(value);
  }

  static void same(String what, Object got, Object expected) {
    if (!Objects.deepEquals(got, expected)) throw new AssertionError(what + ": " + text(got) + " is not " + text(expected));
    show(what, got);
  }

  static PreparedStatement prepare(String sql, Object... values) throws SQLException {
    PreparedStatement statement = connection.prepareStatement(sql);
    for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
    return statement;
  }

  static List<List<Object>> rows(ResultSet results) throws SQLException {
    List<List<Object>> rows = new ArrayList<>();
    while (results.next()) {
      List<Object> row = new ArrayList<>();
      for (int i = 1; i <= results.getMetaData().getColumnCount(); i++) {
        Object cell = results.getObject(i);
        row.add(cell instanceof byte[] || cell instanceof java.sql.Array ? text(cell) : cell);
      }
      rows.add(row);
    }
    return rows;
  }

  static List<List<Object>> query(String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = prepare(sql, values)) { return rows(statement.executeQuery()); }
  }

  static int update(String sql, Object... values) throws SQLException {
    try (PreparedStatement statement = prepare(sql, values)) { return statement.executeUpdate(); }
  }

  static PGobject typed(String type, String text) throws SQLException {
    PGobject value = new PGobject();
    value.setType(type);
    value.setValue(text);
    return value;
  }

  /** This driver's simple mode has no literal for bytes. */
  static void bytes(PreparedStatement statement, int at, byte[] value) throws SQLException {
    if (simple) statement.setObject(at, typed("bytea", "\\x" + text(value))); else statement.setBytes(at, value);
  }

  static List<List<Object>> one(Object... row) { return List.of(Arrays.asList(row)); }

  static void create() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text);"
          + " create index visit_person on visit (person); comment on table visit is 'who came'");
    }
  }

  static void insert() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("insert into people (" + COLUMNS + ") values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
      statement.setInt(1, 1);
      statement.setString(2, ADA);
      statement.setString(3, "Ada kanarie");
      statement.setObject(4, BORN);
      statement.setBigDecimal(5, new BigDecimal("1234.50"));
      statement.setDouble(6, 0.1);
      statement.setBoolean(7, true);
      statement.setObject(8, TOKEN);
      statement.setObject(9, SEEN);
      statement.setObject(10, WOKE);
      statement.setShort(11, (short) -7);
      statement.setInt(12, 42);
      statement.setLong(13, BIG);
      bytes(statement, 14, BLOB);
      statement.setObject(15, typed("json", "{\"kanarie\": [1,  2.50]}"));
      statement.setString(16, "first");
      show(statement.executeUpdate());
    }
    try (PreparedStatement statement = connection.prepareStatement("insert into people (id, email, name, born, visits, blob) values (?, ?, ?, ?, ?, ?)", new String[] {"id", "email", "visits"})) {
      statement.setInt(1, 2);
      statement.setString(2, BOB);
      statement.setString(3, "Bob\n\"kanarie\" 'x' \\ ?");
      statement.setDate(4, java.sql.Date.valueOf("1999-02-28"));
      statement.setNull(5, Types.INTEGER);
      statement.setNull(6, Types.BINARY);
      statement.executeUpdate();
      same("keys", rows(statement.getGeneratedKeys()), one(2, BOB, null));
    }
    try (PreparedStatement statement = connection.prepareStatement("insert into people (id, email) values (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
      statement.setInt(1, 3);
      statement.setString(2, ZOE);
      statement.executeUpdate();
      show(rows(statement.getGeneratedKeys()));
    }
    show(query("insert into visit (person, reason) values (?, ?) returning id", 1, "check"));
    show(update("insert into orders values (?, ?, ?), (?, ?, ?)", 10, ADA, 100, 11, BOB, 200));
  }

  static void search() throws SQLException {
    for (int i = 0; i < 3; i++) same("equal", query("select id from people where email = ?", ADA), one(1));
    same("literal", query("select id from people where email = '" + ADA + "'"), one(1));
    same("in", query("select id from people where email in (?, ?) order by id", ADA, ZOE), List.of(List.of(1), List.of(3)));
    same("any", query("select id from people where email = any(?) order by id", connection.createArrayOf("varchar", new String[] {ADA, BOB})), List.of(List.of(1), List.of(2)));
    same("any text", query("select id from people where email = any(?::text[]) order by id", connection.createArrayOf("text", new String[] {ADA, BOB})), List.of(List.of(1), List.of(2)));
    same("uuid, int8", query("select id from people where token = ? and big = ?", TOKEN, BIG), one(1));
    same("number of another type", query("select id from people where big = ?", new BigDecimal(BIG)), one(1));
    same("null", query("select id from people where name is null"), one(3));
    same("join", query("select p.name, v.reason from visit v join people p on p.id = v.person where p.email = ?", ADA), one("Ada kanarie", "check"));
    same("join of sealed columns", query("select o.total from orders o join people p using (email) where p.id = ?", 2), one(200));
    try (PreparedStatement statement = prepare("select " + COLUMNS + " from people where id = ?", 1); ResultSet row = statement.executeQuery()) {
      row.next();
      same("typed", List.of(row.getInt(1), row.getString(2), row.getObject(4, LocalDate.class), row.getBigDecimal(5), row.getDouble(6), row.getBoolean(7), row.getObject(8), row.getObject(9, OffsetDateTime.class),
          row.getObject(10, LocalDateTime.class), row.getShort(11), row.getInt("visits"), row.getLong("big"), text(row.getBytes(14)), row.getString(15)),
          List.of(1, ADA, BORN, new BigDecimal("1234.50"), 0.1, true, TOKEN, SEEN, WOKE, (short) -7, 42, BIG, text(BLOB), "{\"kanarie\": [1,  2.50]}"));
      show(row.getDate(4), row.getTimestamp(9).toInstant(), row.getTimestamp(10).toLocalDateTime(), row.getString(6), row.getString(7));
    }
    show(query("select " + COLUMNS + " from people order by id"));
    show(query("select count(*), count(email), count(distinct token) from people"));
  }

  static void metadata() throws SQLException {
    try (PreparedStatement statement = prepare("select p.id, email as mail, name, born, salary, active, token, seen, small, big, blob, doc, note from people p where email = ? and big = ? and visits is null", ADA, BIG)) {
      ResultSetMetaData columns = statement.getMetaData();
      for (int i = 1; i <= columns.getColumnCount(); i++) {
        show(columns.getColumnLabel(i), columns.getColumnTypeName(i), columns.getColumnClassName(i), columns.getPrecision(i), columns.getScale(i), columns.getColumnDisplaySize(i), columns.isSigned(i),
            columns.getTableName(i), ((org.postgresql.PGResultSetMetaData) columns).getBaseColumnName(i), columns.isNullable(i));
      }
      ParameterMetaData parameters = statement.getParameterMetaData();
      for (int i = 1; i <= parameters.getParameterCount(); i++) show(parameters.getParameterTypeName(i), parameters.getParameterClassName(i));
    }
  }

  static void change() throws SQLException {
    show(update("update people set name = ?, salary = ?, born = ?, active = ? where email = ?", "Augusta kanarie", new BigDecimal("99999999.99"), LocalDate.of(1, 1, 1), null, ADA));
    try (PreparedStatement statement = prepare("update people set seen = ?, blob = ? where id = ? returning blob, name, salary", Timestamp.from(SEEN.toInstant()), null, 1)) {
      bytes(statement, 2, new byte[] {92, 39});
      same("returning", rows(statement.executeQuery()), one("5c27", "Augusta kanarie", new BigDecimal("99999999.99")));
    }
    try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_SENSITIVE, ResultSet.CONCUR_UPDATABLE); ResultSet row = statement.executeQuery("select id, email, name, visits, born from people where id = 2")) {
      row.next();
      row.updateString("name", "updatable kanarie");
      row.updateInt("visits", 7);
      row.updateDate("born", java.sql.Date.valueOf("2000-02-29"));
      row.updateRow();
      row.moveToInsertRow();
      row.updateInt("id", 4);
      row.updateString("email", "row.kanarie@example.org");
      row.updateString("name", "inserted kanarie");
      row.insertRow();
      row.moveToCurrentRow();
      row.refreshRow();
      show(row.getString("name"), row.getInt("visits"), row.getString("email"));
    }
    show(query("select id, email, name, visits, born from people where id in (2, 4) order by id"));
  }

  static void upsert() throws SQLException {
    String sql = "insert into people (id, email, name) values (?, ?, ?) on conflict (email) do update set name = excluded.name returning id, name";
    same("old", query(sql, 20, ADA, "Countess kanarie"), one(1, "Countess kanarie"));
    same("new", query(sql, 21, "new.kanarie@example.org", "New kanarie"), one(21, "New kanarie"));
    show(update("insert into people (id, email) values (?, ?) on conflict do nothing", 22, ADA));
    show(update("merge into people p using (values (?, ?, ?)) v(i, e, n) on p.id = v.i when matched then update set name = v.n when not matched then insert (id, email) values (v.i, v.e)", 21, ZOE, "merged kanarie"));
  }

  static void batch(int first, int count) throws SQLException {
    connection.setAutoCommit(false);
    try (PreparedStatement statement = connection.prepareStatement("insert into people (id, email, name, born) values (?, ?, ?, ?)")) {
      for (int i = first; i < first + count; i++) {
        statement.setInt(1, i);
        statement.setString(2, "bulk" + i + ".kanarie@example.org");
        statement.setString(3, i % 7 == 0 ? null : "kanarie " + i);
        statement.setObject(4, BORN.plusDays(i));
        statement.addBatch();
      }
      show(Arrays.stream(statement.executeBatch()).filter(n -> n == 1 || n == Statement.SUCCESS_NO_INFO).count());
    }
    connection.commit();
  }

  static void bulk(Connection rewriting) throws Exception {
    batch(100, 300);
    Connection plain = connection;
    connection = rewriting;
    try {
      batch(400, 300);
    } finally {
      connection = plain;
    }
    try (Statement statement = connection.createStatement()) {
      statement.addBatch("insert into people (id, email) values (700, 'one.kanarie@example.org')");
      statement.addBatch("update people set name = 'batched kanarie' where email = 'one.kanarie@example.org'");
      show(statement.executeBatch());
    }
    StringBuilder csv = new StringBuilder();
    for (int i = 800; i < 1000; i++) csv.append(i).append(",bulk").append(i).append(".kanarie@example.org,\"kanarie, ").append(i).append("\",\n");
    var copy = ((PGConnection) connection).getCopyAPI();
    show(copy.copyIn("copy people (id, email, name, born) from stdin with (format csv)", new StringReader(csv.toString())));
    StringWriter out = new StringWriter();
    copy.copyOut("copy (select id, email, name, born from people where id between 798 and 803 order by id) to stdout", out);
    show(out.toString());
    same("count", query("select count(*), count(distinct email) from people where id >= 100"), one(801L, 801L));
  }

  static void cursor() throws SQLException {
    connection.setAutoCommit(false);
    try (PreparedStatement statement = prepare("select id, email from people where id >= ? and id < 400 order by id", 100)) {
      statement.setFetchSize(7);
      List<List<Object>> rows = rows(statement.executeQuery());
      same("rows", rows.size(), 300);
      same("last", rows.get(299), List.of(399, "bulk399.kanarie@example.org"));
    }
    try (PreparedStatement statement = connection.prepareStatement("select id, name from people where email = any(?) order by id", ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) {
      statement.setArray(1, connection.createArrayOf("text", new String[] {"bulk100.kanarie@example.org", "bulk101.kanarie@example.org", "bulk102.kanarie@example.org"}));
      ResultSet rows = statement.executeQuery();
      rows.absolute(3);
      show(rows.getString("name"));
      rows.first();
      show(rows.getString("name"));
    }
  }

  static void transaction() throws SQLException {
    connection.setAutoCommit(false);
    update("insert into people (id, email) values (?, ?)", 60, "tx.kanarie@example.org");
    Savepoint savepoint = connection.setSavepoint("one");
    try {
      update("insert into people (id, email) values (?, ?)", 61, "tx.kanarie@example.org");
    } catch (PSQLException e) {
      show(e.getSQLState());
      connection.rollback(savepoint);
    }
    same("inside", query("select id from people where email = ?", "tx.kanarie@example.org"), one(60));
    connection.rollback();
    same("rolled back", query("select id from people where email = ?", "tx.kanarie@example.org"), List.of());
    connection.commit();
    connection.setReadOnly(true);
    try {
      update("update people set name = ? where id = 1", "x");
    } catch (PSQLException e) {
      show(e.getSQLState());
    }
    connection.rollback();
    connection.setReadOnly(false);
  }

  static void failures() throws SQLException {
    Object[][] all = {
        {"insert into people (id, email) values (?, ?)", 50, ADA},
        {"insert into people (id, email) values (?, ?)", 50, null},
        {"insert into people (id, email) values (?, ?)", 50, "kanarie".repeat(20)},
        {"update people set salary = ? where id = 1", new BigDecimal("1e8")},
        {"update people set small = ? where id = 1", 40000},
        {"update people set born = ?::date where id = 1", "kanarie"},
        {"update people set born = ? where id = 1", "1999-01-01"},
        {"select nonsense from people where email = ?", ADA},
        {"selec"},
        {"select 1/0"},
    };
    for (Object[] one : all) {
      try {
        update((String) one[0], Arrays.copyOfRange(one, 1, one.length));
        show("fits", one[0]);
      } catch (PSQLException e) {
        var server = e.getServerErrorMessage();
        show(e.getSQLState(), server == null ? "-" : server.getConstraint() + " " + server.getColumn() + " " + server.getTable());
      }
    }
    try (PreparedStatement statement = connection.prepareStatement("insert into people (id, email) values (?, ?)")) {
      for (int i = 0; i < 5; i++) {
        statement.setInt(1, 50 + i);
        statement.setString(2, i == 3 ? ADA : "batch" + i + ".kanarie@example.org");
        statement.addBatch();
      }
      statement.executeBatch();
      throw new AssertionError("a batch with a duplicate");
    } catch (BatchUpdateException e) {
      show(e.getSQLState(), e.getUpdateCounts());
    }
    same("after", query("select id from people where email = ?", BOB), one(2));
  }

  static void remove() throws SQLException {
    same("returning", query("delete from people where email = ? returning name", ZOE), one((Object) null));
    show(update("drop table visit"));
  }

  static void scenario(Properties properties, String url) throws Exception {
    step("create", JdbcClient::create);
    step("insert", JdbcClient::insert);
    step("search", JdbcClient::search);
    step("metadata", JdbcClient::metadata);
    step("update", JdbcClient::change);
    step("upsert", JdbcClient::upsert);
    properties.setProperty("reWriteBatchedInserts", "true");
    try (Connection rewriting = DriverManager.getConnection(url, properties)) {
      step("bulk", () -> bulk(rewriting));
    }
    step("cursor", JdbcClient::cursor);
    step("transaction", JdbcClient::transaction);
    step("failures", JdbcClient::failures);
    step("delete", JdbcClient::remove);
  }

  static void introspect() throws SQLException {
    DatabaseMetaData data = connection.getMetaData();
    step("tables", () -> listed(data.getTables(null, "public", "%", new String[] {"TABLE", "VIEW"}), "TABLE_NAME", "TABLE_TYPE"));
    step("columns", () -> listed(data.getColumns(null, "public", "%", "%"), "TABLE_NAME", "COLUMN_NAME", "ORDINAL_POSITION", "NULLABLE"));
    step("keys", () -> {
      for (String table : List.of("people", "orders")) {
        listed(data.getPrimaryKeys(null, "public", table), "TABLE_NAME", "COLUMN_NAME", "KEY_SEQ");
        listed(data.getIndexInfo(null, "public", table, false, false), "INDEX_NAME", "COLUMN_NAME", "NON_UNIQUE");
      }
    });
    step("description", () -> {
      try (Statement statement = connection.createStatement(); ResultSet none = statement.executeQuery("select * from people limit 0")) {
        for (int i = 1; i <= none.getMetaData().getColumnCount(); i++) show(none.getMetaData().getColumnName(i));
      }
    });
  }

  static void listed(ResultSet results, String... columns) throws SQLException {
    while (results.next()) {
      Object[] row = new Object[columns.length];
      for (int i = 0; i < row.length; i++) row[i] = results.getString(columns[i]);
      show(row);
    }
  }

  public static void main(String[] args) throws Exception {
    TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
    URI uri = new URI(args[0]);
    String[] user = uri.getUserInfo().split(":");
    String url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
    Properties properties = new Properties();
    properties.setProperty("user", user[0]);
    properties.setProperty("password", user[1]);
    simple = args[2].equals("simple");
    properties.setProperty("preferQueryMode", args[2].equals("cached") ? "extendedCacheEverything" : args[2]);
    if (args[2].equals("cached")) {
      // Statements without parameters are prepared too, each behind a savepoint; strings are sent without a type.
      properties.setProperty("autosave", "always");
      properties.setProperty("stringtype", "unspecified");
    }
    // Named statements and binary cells from the second use on.
    properties.setProperty("prepareThreshold", "2");
    connection = DriverManager.getConnection(url, properties);
    System.out.println("version " + connection.getMetaData().getDriverVersion());
    if (args[1].equals("scenario")) scenario(properties, url); else introspect();
    connection.close();
  }
}
