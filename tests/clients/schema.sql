create table people (
    id int primary key,
    email varchar(80) not null unique,
    name text,
    born date,
    salary numeric(10,2),
    score float8,
    active boolean,
    token uuid,
    seen timestamptz,
    woke timestamp,
    small int2,
    visits int4,
    big int8,
    blob bytea,
    doc json,
    note text
);
create table orders (id int primary key, email varchar(80) not null, total int);
