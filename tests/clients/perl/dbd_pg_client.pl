# DBD::Pg over libpq: placeholders, prepared on the server or written into the text, and DBI's own catalog calls.
# Prints what matrix.sh compares. Usage: perl dbd_pg_client.pl URL scenario|introspect server|text
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:pg_types :async);

my ($url, $mode, $prepare) = @ARGV;
binmode STDOUT, ':encoding(UTF-8)';
my ($user, $password, $host, $port, $database) = $url =~ m{^postgresql://(.+):(.+)\@(.+):(\d+)/(.+)$} or die "not a URL: $url";
my ($ada, $bob, $zoe) = ('ada.kanarie@example.org', 'bob.kanarie@example.org', 'zoë.kanarie@example.org');
my $token = '6ba7b810-9dad-11d1-80b4-00c04fd430c8';
my $big = '9007199254740993';
my $dbh = DBI->connect("dbi:Pg:dbname=$database;host=$host;port=$port", $user, $password, {
  RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_server_prepare => $prepare eq 'server' ? 1 : 0, pg_switch_prepared => 1 });
$dbh->do("set timezone = 'UTC'");

sub cell { my ($v) = @_; return 'NULL' unless defined $v; return '[' . join(', ', map { cell($_) } @$v) . ']' if ref $v eq 'ARRAY';
  return '{' . join(', ', map { "$_: " . cell($v->{$_}) } sort keys %$v) . '}' if ref $v eq 'HASH'; return "$v" }
sub show { print '   ', join(' ', map { cell($_) } @_), "\n" }
sub same { my ($what, $got, $expected) = @_; die "$what: " . cell($got) . ' is not ' . cell($expected) . "\n" if cell($got) ne cell($expected); show($what, $got) }
sub rows { my ($sql, @values) = @_; return $dbh->selectall_arrayref($sql, undef, @values) }
sub ids { my ($sql, @values) = @_; return $dbh->selectcol_arrayref($sql, undef, @values) }
# What the server says of a statement; its handle must outlive the question.
sub said { my ($sql, @values) = @_; my $sth; if (eval { $sth = $dbh->prepare($sql); $sth->execute(@values); 1 }) { show('fits'); return }
  my ($error, $on) = ($@, $sth // $dbh); die $error unless $on->err; show($on->state, map { $dbh->pg_error_field($_) } qw(constraint column table)) }
sub bulk { my ($first, $count) = @_; return map { [$_, "bulk$_.kanarie\@example.org", "kanarie $_"] } $first .. $first + $count - 1 }

my @scenario = (
  create => sub {
    $dbh->do('create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason text)');
    $dbh->do("create index visit_person on visit (person); comment on table visit is 'who came'");
  },
  insert => sub {
    my $sth = $dbh->prepare('insert into people (id, email, name, born, salary, score, active, token, seen, woke, small, visits, big, blob, doc, note)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    my @row = (1, $ada, 'Ada kanarie', '1815-12-10', '1234.50', 0.1, 't', $token, '2026-03-01 10:30:00.25+00', '2026-03-01 06:15', -7, 42, $big, undef, '{"kanarie": [1,  2.50]}', 'first');
    $sth->bind_param($_, $row[$_ - 1]) for 1 .. 16;
    $sth->bind_param(14, "\x00\xff\x10\xfe\xd1", { pg_type => PG_BYTEA });
    $sth->bind_param(12, 42, { pg_type => PG_INT4 });
    show($sth->execute);
    same('returning', rows('insert into people (id, email, name) values (?, ?, ?) returning id, email, name', 2, $bob, "Bob\n\"kanarie\" 'x' \\ ?"), [[2, $bob, "Bob\n\"kanarie\" 'x' \\ ?"]]);
    my $named = $dbh->prepare('insert into people (id, email) values (:id, :email)');
    $named->bind_param(':id', 3);
    $named->bind_param(':email', $zoe);
    show($named->execute);
    my $numbered = $dbh->prepare('insert into orders (id, email, total) values ($1, $2, $1 * 10), ($3, $4, 200)');
    show($numbered->execute(10, $ada, 11, $bob));
    show(rows('insert into visit (person, reason) values (?, ?) returning id', 1, 'check'));
    show($dbh->last_insert_id(undef, 'public', 'visit', undef));
  },
  search => sub {
    same('equal', ids('select id from people where email = ?', $ada), [1]);
    same('literal', ids('select id from people where email = ' . $dbh->quote($ada)), [1]);
    same('in', ids('select id from people where email in (?, ?) order by id', $ada, $zoe), [1, 3]);
    same('any', ids('select id from people where email = any(?) order by id', [$ada, $bob]), [1, 2]);
    same('uuid, int8', ids('select id from people where token = ? and big = ?', $token, $big), [1]);
    same('null', ids('select id from people where name is null'), [3]);
    my $sth = $dbh->prepare('select name from people where email = ?');
    for my $email ($ada, $zoe, $bob, $ada) { $sth->execute($email); show($sth->fetchrow_array) }
    my $all = $dbh->selectall_arrayref('select * from people order by id', { Slice => {} });
    $_->{blob} = defined $_->{blob} ? unpack('H*', $_->{blob}) : undef for @$all;
    show($all);
    show(rows('select p.name, v.reason from visit v join people p on p.id = v.person where p.email = ?', $ada));
    show(rows('select p.name, o.total from people p join orders o using (email) order by o.total'));
    show($dbh->selectrow_hashref('select count(*), count(distinct email) as emails from people'));
    $sth = $dbh->prepare('select id, email as mail, born, salary, token, doc from people where email = ? and big = ?');
    $sth->execute($ada, $big);
    show($sth->{NAME}, $sth->{TYPE}, $sth->{PRECISION}, $sth->{SCALE}, $sth->{pg_type}, $sth->{NUM_OF_PARAMS});
    $sth->finish;
  },
  update => sub {
    show($dbh->do('update people set name = ?, salary = ?, born = ?, active = ? where email = ?', undef, 'Augusta kanarie', '99999999.99', '0001-01-01', undef, $ada));
    my $sth = $dbh->prepare('update people set blob = ?, note = ? where id = ? returning blob, name, salary');
    $sth->bind_param(1, "\\'", { pg_type => PG_BYTEA });
    $sth->bind_param(2, 'n');
    $sth->bind_param(3, 1);
    $sth->execute;
    show($sth->fetchall_arrayref);
  },
  upsert => sub {
    my $sql = 'insert into people (id, email, name) values (?, ?, ?) on conflict (email) do update set name = excluded.name returning id, name';
    same('old', rows($sql, 20, $ada, 'Countess kanarie'), [[1, 'Countess kanarie']]);
    same('new', rows($sql, 21, 'new.kanarie@example.org', 'New kanarie'), [[21, 'New kanarie']]);
    show($dbh->do('insert into people (id, email) values (?, ?) on conflict do nothing', undef, 22, $ada));
  },
  bulk => sub {
    my $sth = $dbh->prepare('insert into people (id, email, name) values (?, ?, ?)');
    my @rows = bulk(100, 120);
    show($sth->execute_array({ ArrayTupleFetch => sub { shift @rows } }));
    $dbh->do('copy people (id, email, name) from stdin');
    $dbh->pg_putcopydata(join("\t", @$_) . "\n") for bulk(800, 200);
    show($dbh->pg_putcopyend);
    $dbh->do('copy (select id, email, name from people where id between 800 and 802 order by id) to stdout');
    my ($line, $out) = ('', '');
    $out .= $line while $dbh->pg_getcopydata($line) >= 0;
    show($out);
    show($dbh->do('insert into people (id, email) select * from unnest(?::int[], ?::text[])', undef, [1100 .. 1104], [map { $_->[1] } bulk(1100, 5)])) if $prepare eq 'server';
    show(rows('select count(*), count(distinct email) from people where email = any(?)', [map { $_->[1] } bulk(100, 120)]));
  },
  cursor => sub {
    $dbh->begin_work;
    $dbh->do('declare c cursor for select id, email from people where id >= 100 order by id');
    show(rows('fetch 3 from c'), rows('fetch 1 from c'), scalar @{ rows('fetch all from c') });
    $dbh->rollback;
  },
  asynchronous => sub {
    my $sth = $dbh->prepare('select name from people where email = ?', { pg_async => PG_ASYNC });
    $sth->execute($bob);
    show($sth->pg_result, $sth->fetchrow_array);
  },
  transaction => sub {
    $dbh->begin_work;
    $dbh->do('insert into people (id, email) values (?, ?)', undef, 60, 'tx.kanarie@example.org');
    $dbh->pg_savepoint('one');
    said('insert into people (id, email) values (?, ?)', 61, 'tx.kanarie@example.org');
    said('select name from people where id = ?', 60);
    $dbh->pg_rollback_to('one');
    same('inside', ids('select id from people where email = ? for update', 'tx.kanarie@example.org'), [60]);
    $dbh->rollback;
    same('rolled back', ids('select id from people where email = ?', 'tx.kanarie@example.org'), []);
  },
  failures => sub {
    said(@$_) for
      ['insert into people (id, email) values (?, ?)', 50, $ada],
      ['insert into people (id, email) values (?, ?)', 50, undef],
      ['insert into people (id, email) values (?, ?)', 50, 'kanarie' x 20],
      ['update people set salary = ? where id = 1', '100000000'],
      ['update people set small = ? where id = 1', 40000],
      ['update people set born = ? where id = 1', 'kanarie'],
      ['select nonsense from people where email = ?', $ada],
      ['selec'],
      ['select 1/0'];
    same('after', ids('select id from people where email = ?', $bob), [2]);
  },
  delete => sub {
    same('returning', rows('delete from people where email = ? returning name', $zoe), [[undef]]);
    $dbh->do('drop table visit');
  },
);

sub listed { my ($sth, @columns) = @_; while (my $row = $sth->fetchrow_hashref) { show(@$row{@columns}) } }
my @introspect = (
  tables => sub { listed($dbh->table_info(undef, 'public', '%', 'TABLE'), qw(TABLE_NAME TABLE_TYPE)); show([sort grep { /people|orders/ } $dbh->tables(undef, 'public', '%', 'TABLE')]) },
  columns => sub { listed($dbh->column_info(undef, 'public', $_, '%'), qw(TABLE_NAME COLUMN_NAME ORDINAL_POSITION NULLABLE)) for qw(orders people) },
  keys => sub { show($dbh->primary_key(undef, 'public', 'people')); listed($dbh->statistics_info(undef, 'public', 'people', 0, 0), qw(INDEX_NAME COLUMN_NAME NON_UNIQUE)) },
  description => sub { my $sth = $dbh->prepare('select * from people limit 0'); $sth->execute; show($sth->{NAME}) },
);

print "version $DBD::Pg::VERSION\n";
my @steps = $mode eq 'scenario' ? @scenario : @introspect;
while (my ($name, $run) = splice @steps, 0, 2) {
  print "## $name\n";
  next if eval { $run->(); 1 };
  (my $error = $@) =~ s/\s+/ /g;
  print "failed: $error\n";
  $dbh->rollback unless $dbh->{AutoCommit};
}
$dbh->disconnect;
