//! Pseudonyms and noise: an HMAC of column and value, which nobody can ask for a guess.

use hmac::{Hmac, KeyInit as _, Mac as _};
use pgveil::event::Pseudonym;
use pgveil::mask::sql::expression as mask_expression;
use pgveil::mask::{Mask, apply_id};
use pgveil::wire::types::Kind;
use sha2::Sha256;

use super::{KEY, column, database, install_key, login, rows, run};

fn pseudonym(full_name: &str, value: &[u8]) -> Pseudonym {
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(&[b"id\0", full_name.as_bytes(), b"\0", value].concat());
    let tag = mac.finalize().into_bytes();
    Pseudonym(u128::from_be_bytes(tag[..16].try_into().unwrap()))
}

#[tokio::test]
async fn pseudonyms_are_an_hmac_of_column_and_value() {
    let (name, client) = database().await;
    install_key(&client).await;
    run(
        &client,
        "create table public.v (n serial, t text, v varchar(40), c char(9), s varchar(36), u uuid, i int); \
         insert into public.v (t, v, c, s, u, i) values \
         ('ann', 'ann', 'ann', 'ann', '00000000-0000-0000-0000-000000000001', 1), \
         ('ann', 'bob', 'bob', 'bob', '00000000-0000-0000-0000-000000000002', 2), \
         ('', 'é\\x', '', '', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 3), (null, null, null, null, null, null)",
    )
    .await;
    let lens: Vec<String> = [
        ("text", "t"),
        ("character varying(40)", "v"),
        ("character(9)", "c"),
        ("character varying(36)", "s"),
        ("uuid", "u"),
        ("integer", "i"),
    ]
    .map(|(ty, column)| {
        format!("{} as {column}", mask_expression(&Mask::Id, ty, column, &format!("public.v.{column}")))
    })
    .into();
    let view = format!("create view public.l with (security_barrier) as select {}, n from public.v", lens.join(", "));
    run(&client, &view).await;
    let give = "grant create on schema public to pgveil_lens; alter view public.l owner to pgveil_lens; \
                grant select on public.l to analyst";
    run(&client, give).await;
    let no_table = client.batch_execute("select * from public.l").await.unwrap_err();
    assert_eq!(no_table.code().unwrap().code(), "42501", "the lens owner's rights count");
    run(&client, "grant select on public.v to pgveil_lens").await;

    let analyst = login("analyst", &name).await;
    let shown = rows(&analyst, "select t, v, c, s, u, i from public.l order by n").await;
    let text =
        |column: &str, value: &str| apply_id(Kind::Text, pseudonym(&format!("public.v.{column}"), value.as_bytes()));
    let uuid = |value: u128| apply_id(Kind::Uuid, pseudonym("public.v.u", &value.to_be_bytes()));
    for (row, (t, v, u)) in shown.iter().zip([("ann", "ann", 1), ("ann", "bob", 2), ("", "é\\x", u128::MAX)]) {
        assert_eq!(row[0], text("t", t));
        assert_eq!(row[1], text("v", v));
        assert_eq!(row[4], uuid(u));
    }
    assert_eq!(shown[0][0], shown[1][0], "equal values are equal");
    assert_ne!(shown[0][0], shown[0][1], "and in another column another");
    assert!(
        shown.iter().all(|row| row[2].is_none() && row[3].is_none() && row[5].is_none()),
        "what has no room is NULL"
    );
    assert!(shown[3].iter().all(Option::is_none), "NULL stays NULL");

    for role in ["analyst", "app", "support"] {
        let client = login(role, &name).await;
        let expression = mask_expression(&Mask::Id, "text", "t", "public.v.t");
        for guess in [
            "select ipad from pgveil.lens_key".to_owned(),
            "copy pgveil.lens_key to stdout".to_owned(),
            format!("select {expression} from (values ('ann')) as v (t)"),
            "insert into pgveil.lens_key (ipad, opad) values ('', '')".to_owned(),
        ] {
            let refused = client.simple_query(&guess).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501", "{role}: {guess}");
        }
    }
}

#[tokio::test]
async fn noise_is_bounded_repeatable_and_of_its_column() {
    let (_, client) = database().await;
    install_key(&client).await;
    run(
        &client,
        "create table public.v as select g::int2 a, g b, g::int8 c, (g / 7.0)::numeric(12,3) d, g::float4 e, g / 3.0::float8 f, \
         date '1985-07-23' + g h, timestamp '1985-07-23' + g * interval '1 h' i, timestamptz '1985-07-23 00:00Z' + g * interval \
         '1 h' j, (g / 7.0)::numeric k, (g / 7.0)::numeric * 1.000 l from generate_series(-500, 500) g",
    )
    .await;
    let mask = Mask::Noise(30.try_into().unwrap());
    let types = ["smallint", "integer", "bigint", "numeric(12,3)", "real", "double precision", "date"];
    let types =
        types.into_iter().chain(["timestamp without time zone", "timestamp with time zone", "numeric", "numeric"]);
    for (column_name, ty) in ["a", "b", "c", "d", "e", "f", "h", "i", "j", "k", "l"].into_iter().zip(types) {
        let noisy = |full: &str| mask_expression(&mask, ty, column_name, full);
        let (moved, unit) = match column_name {
            "i" | "j" => (format!("extract(epoch from {} - {column_name})", noisy("p.v.a")), 86_400.0),
            _ => (format!("{} - {column_name}", noisy("p.v.a")), 1.0),
        };
        let measured = format!(
            "select count(distinct m), min(m), max(m), count(*) filter (where differs) from (select ({moved})::float8 / {unit} m, \
             {} is distinct from {} differs from public.v) x",
            noisy("p.v.a"),
            noisy("p.v.b")
        );
        let row: Vec<f64> =
            rows(&client, &measured).await[0].iter().map(|n| n.as_ref().unwrap().parse().unwrap()).collect();
        let [many, least, most, differ] = row[..] else { panic!("{row:?}") };
        assert!(many >= 55.0 && differ > 900.0, "{ty}: {row:?}");
        assert!((-30.001..-25.0).contains(&least) && most > 25.0 && most <= 30.001, "{ty}: {row:?}");
        // Under other settings, too.
        let all = format!("select md5(string_agg(({moved})::text, ',' order by b)) from public.v");
        let first = column(&client, &all).await;
        run(&client, "set timezone = 'UTC'; set intervalstyle = 'iso_8601'; set extra_float_digits = 3").await;
        assert_eq!(column(&client, &all).await, first, "{ty}");
        run(&client, "set timezone = 'America/New_York'; reset intervalstyle; reset extra_float_digits").await;
    }
    // The same number with more decimals is moved as far.
    let [k, l] = ["k", "l"].map(|c| mask_expression(&mask, "numeric", c, "p.v.k"));
    let differ = format!("select count(*) from public.v where pg_catalog.round({k}, 5) <> pg_catalog.round({l}, 5)");
    assert_eq!(column(&client, &differ).await, [Some("0".to_owned())]);
    // Without a key there is nothing to show.
    run(&client, "delete from pgveil.lens_key").await;
    for (masked, ty, of) in
        [(&mask, "integer", "b"), (&mask, "numeric", "k"), (&mask, "date", "h"), (&Mask::Id, "text", "b::text")]
    {
        let some = format!("select count({}) from public.v", mask_expression(masked, ty, of, "p.v.k"));
        assert_eq!(column(&client, &some).await, [Some("0".to_owned())], "{ty}");
    }
}
