create table visit (id serial primary key, person int not null references people(id) on delete cascade, reason varchar(20));
create index visit_person on visit (person);
comment on table visit is 'who came';
