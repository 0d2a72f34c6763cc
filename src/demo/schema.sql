-- A small clinic, after the founding documents: users, appointments, medical_records, communications, consent_records.
create table users (
    id bigint primary key,
    email varchar(320) not null unique,
    full_name text not null,
    phone_number varchar(32),
    date_of_birth date,
    medical_record_number varchar(20) unique,
    nickname text,
    created_at timestamptz not null default now(),
    closed_at timestamptz
);
create table appointments (
    id bigint primary key,
    user_id bigint not null references users (id),
    doctor text not null,
    starts_at timestamptz not null,
    reason text
);
create index on appointments (user_id);
create table medical_records (
    id bigint primary key,
    patient_id bigint not null references users (id),
    patient_name text not null,
    date_of_birth date,
    diagnosis text,
    treatment text,
    created_at timestamptz not null default now()
);
create index on medical_records (patient_id);
create table communications (
    id bigint primary key,
    user_id bigint not null references users (id),
    channel text not null,
    subject text,
    body text,
    sent_at timestamptz not null default now()
);
create index on communications (user_id);
create table consent_records (
    id bigint primary key,
    user_id bigint not null references users (id),
    consent_type text not null,
    granted boolean not null,
    consent_date timestamptz not null,
    withdrawn_date timestamptz,
    consent_text text not null,
    version text not null
);
create index on consent_records (user_id);
grant select, insert, update, delete on all tables in schema public to app;
grant select on all tables in schema public to analyst;
grant select, insert, update on all tables in schema public to support;
