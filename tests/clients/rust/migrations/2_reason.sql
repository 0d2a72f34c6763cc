alter table visit alter reason type varchar(40);
insert into visit (person, reason) select id, 'migrated' from people where email = 'ada.kanarie@example.org';
