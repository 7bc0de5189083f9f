use super::*;
use guan_model::{Class, DatasetId, PointId, PointName, Unit, ValueType};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// 2016-02-28T19:57:02.364Z
const MOMENT: WallTime = WallTime(1_456_689_422_364_000_000);
const RECEIVED: WallTime = WallTime(1_800_000_000_123_456_789);

fn table() -> DescriptorTable {
    let points = [
        (1, "t.bool", ValueType::Bool, "1"),
        (2, "t.i64", ValueType::I64, "1"),
        (3, "t.u64", ValueType::U64, "1"),
        (4, "t.f32", ValueType::F32, "1"),
        (5, "t.f64", ValueType::F64, "Cel"),
        (6, "t.text", ValueType::Text, "1"),
        (7, "t.bytes", ValueType::Bytes, "1"),
        (8, "opaque", ValueType::Bytes, "1"),
        (9, "n2k.127250.7", ValueType::Bytes, "1"),
        (10, "dev.press-1.humidity", ValueType::F64, "%"),
    ];
    let describe = |(id, name, value_type, unit): (u32, &str, ValueType, &str)| PointDescriptor {
        id: PointId(id),
        name: PointName::parse(name).unwrap(),
        value_type,
        unit: Unit::parse(unit).unwrap(),
        dataset: DatasetId::parse("d").unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    };
    DescriptorTable::new(points.map(describe).into()).unwrap()
}

fn field(point: &str, value: &str) -> FieldSpec {
    let encoding = (point == "t.bytes").then_some(Encoding::Hex);
    FieldSpec { point: point.into(), value: value.into(), time: None, quality: None, encoding }
}

fn timed(format: TimeFormat) -> FieldSpec {
    let time = Some(TimeSpec { path: "/t".into(), format });
    FieldSpec { time, quality: Some("/q".into()), ..field("t.f64", "/v") }
}

fn mapping(format: FormatSpec, undecodable: Undecodable) -> MappingSpec {
    MappingSpec { filter: "a/#".into(), format, undecodable }
}

fn json(fields: Vec<FieldSpec>) -> MappingSpec {
    mapping(FormatSpec::Json(fields), Undecodable::Refuse)
}

fn senml() -> MappingSpec {
    mapping(FormatSpec::Senml { prefix: String::new() }, Undecodable::Refuse)
}

fn compile(spec: MappingSpec) -> Decoder {
    Decoder::compile(&[spec], &table()).unwrap()
}

fn decode(spec: MappingSpec, payload: &[u8]) -> Result<Rows, DecodeRefusal> {
    compile(spec).decode("a/x", payload, RECEIVED, ClockQuality::Ntp)
}

/// Value of the only row, or the text of the refusal behind its topic.
fn check_value(point: &str, payload: &str, expect: Result<Value, &str>) {
    let outcome = decode(json(vec![field(point, "/v")]), payload.as_bytes());
    let outcome = outcome.map(|mut rows| rows.pop().unwrap().value.unwrap());
    match (outcome, expect) {
        (Ok(value), Ok(expect)) => assert_eq!(value, expect, "for {point} {payload}"),
        (Err(fault), Err(expect)) => {
            assert!(fault.text().contains(expect), "for {point} {payload}: {fault}");
        }
        (outcome, expect) => panic!("for {point} {payload}: {outcome:?}, expected {expect:?}"),
    }
}

#[test]
fn numbers_are_taken_exactly() {
    let f64s = |text: &str, value| check_value("t.f64", text, Ok(Value::F64(value)));
    f64s(r#"{"v":73.96732207}"#, 73.967_322_07);
    f64s(r#"{"v":74.93588199999998}"#, 74.935_881_999_999_98);
    f64s(r#"{"v":-0}"#, -0.0);
    f64s(r#"{"v":9007199254740993}"#, 9_007_199_254_740_992.0);
    // Halfway case that a quick parser gets wrong by one unit in the last place.
    f64s(r#"{"v":2.2250738585072011e-308}"#, 2.225_073_858_507_201e-308);
    check_value("t.f64", r#"{"v":1e309}"#, Err("out of range for f64"));
    check_value("t.f32", r#"{"v":0.1}"#, Ok(Value::F32(0.1)));
    // One rounding: by way of f64 this would become 1.0.
    check_value("t.f32", r#"{"v":1.000000059604644775390626}"#, Ok(Value::F32(1.000_000_1)));
    check_value("t.f32", r#"{"v":1e39}"#, Err("out of range for f32"));
    let i64s = |text: &str, value| check_value("t.i64", text, Ok(Value::I64(value)));
    i64s(r#"{"v":9223372036854775807}"#, i64::MAX);
    i64s(r#"{"v":-9223372036854775808}"#, i64::MIN);
    i64s(r#"{"v":1.50e1}"#, 15);
    i64s(r#"{"v":12.0}"#, 12);
    check_value("t.i64", r#"{"v":9223372036854775808}"#, Err("out of range for i64"));
    check_value("t.i64", r#"{"v":0.5}"#, Err("not a whole number"));
    check_value("t.u64", r#"{"v":18446744073709551615}"#, Ok(Value::U64(u64::MAX)));
    check_value("t.u64", r#"{"v":18446744073709551616}"#, Err("out of range for u64"));
    check_value("t.u64", r#"{"v":-1}"#, Err("out of range for u64"));
}

#[test]
fn other_values_are_taken_exactly() {
    check_value("t.bool", r#"{"v":true}"#, Ok(Value::Bool(true)));
    check_value("t.bool", r#"{"v":1}"#, Err("a number is no value for a point of type bool"));
    check_value("t.f64", r#"{"v":"1"}"#, Err("a string is no value for a point of type f64"));
    check_value("t.f64", r#"{"v":{}}"#, Err("an object is no value"));
    let text = |text: &str| Ok(Value::Text(text.into()));
    check_value("t.text", r#"{"v":"\u00e9\n\"\ud83d\ude00/"}"#, text("é\n\"😀/"));
    check_value("t.text", r#"{"v":"关口"}"#, text("关口"));
    check_value("t.text", r#"{"v":"\ud83d"}"#, Err("surrogate"));
    check_value("t.text", r#"{"v":"\ude00\ud83d"}"#, Err("surrogate"));
    let longest = "x".repeat(256);
    check_value("t.text", &format!(r#"{{"v":"{longest}"}}"#), text(&longest));
    check_value("t.text", &format!(r#"{{"v":"{longest}x"}}"#), Err("257 bytes; the limit is 256"));
    let bytes = |bytes: &[u8]| Ok(Value::Bytes(bytes::Bytes::copy_from_slice(bytes)));
    check_value("t.bytes", r#"{"v":"00fF10"}"#, bytes(&[0, 255, 16]));
    check_value("t.bytes", r#"{"v":""}"#, bytes(&[]));
    check_value("t.bytes", r#"{"v":"abc"}"#, Err("not hexadecimal"));
    check_value("t.bytes", &format!(r#"{{"v":"{}"}}"#, "00".repeat(4096)), bytes(&[0; 4096]));
    let over = format!(r#"{{"v":"{}"}}"#, "00".repeat(4097));
    check_value("t.bytes", &over, Err("4097 bytes in one value; the limit is 4096"));
}

#[test]
fn base64_with_and_without_padding() {
    let base64 = FieldSpec { encoding: Some(Encoding::Base64), ..field("t.bytes", "/v") };
    let check = |text: &str, expect: Option<&[u8]>| {
        let rows = decode(json(vec![base64.clone()]), format!(r#"{{"v":"{text}"}}"#).as_bytes());
        let value = rows.ok().and_then(|rows| rows[0].value.clone());
        let expect = expect.map(|bytes| Value::Bytes(bytes::Bytes::copy_from_slice(bytes)));
        assert_eq!(value, expect, "for {text}");
    };
    check("+/8=", Some(&[0xfb, 0xff]));
    check("+/8", Some(&[0xfb, 0xff]));
    check("-_8", None);
    check("+/8==", None);
}

#[test]
fn json_must_be_whole_and_plain() {
    let check = |payload: &str, expect: &str| check_value("t.f64", payload, Err(expect));
    check("", "expected a value");
    check(r#"{"v":1"#, "expected ',' or '}'");
    check(r#"{"v":1}x"#, "expected the end");
    check(r#"{"v":01}"#, "expected ',' or '}'");
    check(r#"{"v":1.}"#, "expected a digit");
    check(r#"{"v":+1}"#, "expected a value");
    check(r#"{"v":NaN}"#, "expected a value");
    check(r#"{"v":nul}"#, "expected null");
    check(r#"{"v":1,}"#, "expected '\"'");
    check(r#"{"w":[1,]}"#, "expected a value");
    check("{\"w\":\"\u{1}\",\"v\":1}", "expected '\"'");
    check(r#"{"w":"\x","v":1}"#, "escape");
    check(r#"{"w":"\u12g4","v":1}"#, "escape");
    check(r#"{"v":1,"v":1}"#, "stands twice");
    check(r#"{"v":1,"\u0076":2}"#, "stands twice");
    check(r#"{"w":1}"#, r#"the message has no "/v""#);
    check("[1]", r#"the message has no "/v""#);
    let refused = decode(json(vec![field("t.f64", "/v")]), b"{\"v\":\"\xff\"}").unwrap_err();
    assert!(refused.text().contains("not UTF-8 at byte 6"), "{refused}");
    assert_eq!(refused.code(), RefusalCode::Undecodable);
}

#[test]
fn depth_is_limited_exactly() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let spec = || json(vec![field("t.f64", &"/0".repeat(DEPTH_MAX))]);
    let rows = decode(spec(), nested(DEPTH_MAX).as_bytes()).unwrap();
    assert_eq!(rows[0].value, Some(Value::F64(1.0)));
    let refused = decode(spec(), nested(DEPTH_MAX + 1).as_bytes()).unwrap_err();
    assert!(refused.text().contains("nested deeper than 32 levels"), "{refused}");
}

#[test]
fn pointers_follow_rfc_6901() {
    let payload = r#"{"a/b":{"m~n":[10,{"":11}]},"":12}"#;
    let check = |path: &str, expect: f64| {
        let rows = decode(json(vec![field("t.f64", path)]), payload.as_bytes()).unwrap();
        assert_eq!(rows[0].value, Some(Value::F64(expect)), "at {path}");
    };
    check("/a~1b/m~0n/0", 10.0);
    check("/a~1b/m~0n/1/", 11.0);
    check("/", 12.0);
    let rows = decode(json(vec![field("t.f64", "")]), b" 23.5 ").unwrap();
    assert_eq!(rows[0].value, Some(Value::F64(23.5)));
}

fn check_time(format: TimeFormat, time: &str, expect: Result<Option<WallTime>, &str>) {
    let payload = format!(r#"{{"v":1,"t":{time}}}"#);
    let outcome = decode(json(vec![timed(format)]), payload.as_bytes());
    match (outcome, expect) {
        (Ok(rows), Ok(expect)) => {
            assert_eq!(rows[0].source_time, expect, "for {time}");
            let missing = rows[0].quality.flags() & Quality::SOURCE_TIME_MISSING != 0;
            assert_eq!(missing, expect.is_none(), "for {time}");
        }
        (Err(fault), Err(expect)) => assert!(fault.text().contains(expect), "{time}: {fault}"),
        (outcome, expect) => panic!("for {time}: {outcome:?}, expected {expect:?}"),
    }
}

#[test]
fn source_times() {
    use TimeFormat::{Auto, EpochMillis, EpochNanos, EpochSeconds, Rfc3339};
    let moment = Ok(Some(MOMENT));
    check_time(Rfc3339, r#""2016-02-28T19:57:02.364Z""#, moment);
    check_time(Rfc3339, r#""2016-02-29T03:57:02.364+08:00""#, moment);
    check_time(Rfc3339, r#""2016-02-28T19:57:02.364""#, Err("no time of RFC 3339"));
    check_time(Rfc3339, r#""2016-02-30T19:57:02Z""#, Err("no time of RFC 3339"));
    check_time(Rfc3339, r#""9999-01-01T00:00:00Z""#, Err("lies outside 1677 to 2262"));
    check_time(Rfc3339, "null", Ok(None));
    check_time(Rfc3339, "{}", Err("an object is no time"));
    check_time(EpochSeconds, "1456689422.364", moment);
    check_time(EpochSeconds, "1.456689422364e9", moment);
    check_time(EpochSeconds, r#""1456689422.364""#, moment);
    check_time(EpochSeconds, r#""soon""#, Err("no number of seconds"));
    check_time(EpochSeconds, "1e10", Err("lies outside 1677 to 2262"));
    check_time(EpochSeconds, "-0.0000000001", Ok(Some(WallTime(-1))));
    check_time(EpochMillis, "1456689422364", moment);
    check_time(EpochNanos, "1456689422364000000", moment);
    check_time(EpochNanos, "9223372036854775807", Ok(Some(WallTime(i64::MAX))));
    check_time(EpochNanos, "9223372036854775808", Err("lies outside 1677 to 2262"));
    check_time(Auto, "1456689422.364", moment);
    check_time(Auto, "1456689422364", moment);
    check_time(Auto, "1456689422364000", moment);
    check_time(Auto, "1456689422364000000", moment);
    check_time(Auto, r#""2016-02-28T19:57:02.364Z""#, moment);
}

#[test]
fn a_row_says_how_it_came() {
    let spec = || json(vec![timed(TimeFormat::Auto)]);
    let missing = Quality::SOURCE_TIME_MISSING;
    let check = |payload: &str, clock, expect: Quality| {
        let rows = compile(spec()).decode("a/x", payload.as_bytes(), RECEIVED, clock).unwrap();
        assert_eq!(rows[0].quality, expect, "for {payload}");
        assert_eq!(rows[0].gateway_time, WallTime(1_800_000_000_123_000_000));
    };
    let device = |severity| Quality::new(severity, Reason::DeviceFault).with_flags(missing);
    let good = Quality::GOOD.with_flags(missing);
    check(r#"{"v":1}"#, ClockQuality::Rtc, good);
    check(r#"{"v":1}"#, ClockQuality::Unset, good.with_flags(Quality::CLOCK_UNSURE));
    check(r#"{"v":1,"q":"GOOD"}"#, ClockQuality::Rtc, good);
    check(r#"{"v":1,"q":192}"#, ClockQuality::Rtc, good);
    check(r#"{"v":1,"q":0}"#, ClockQuality::Rtc, device(Severity::Bad));
    check(r#"{"v":1,"q":false}"#, ClockQuality::Rtc, device(Severity::Bad));
    check(r#"{"v":1,"q":"uncertain"}"#, ClockQuality::Rtc, device(Severity::Uncertain));
    let stale = Quality::new(Severity::Uncertain, Reason::Stale).with_flags(missing);
    check(r#"{"v":1,"q":500}"#, ClockQuality::Rtc, stale);
    let invalid = Quality::new(Severity::Bad, Reason::Invalid).with_flags(missing);
    check(r#"{"v":null}"#, ClockQuality::Rtc, invalid);
    check(r#"{"v":null,"q":"bad"}"#, ClockQuality::Rtc, device(Severity::Bad));
    let refused = decode(spec(), br#"{"v":1,"q":"fine"}"#).unwrap_err();
    assert!(refused.text().contains("no quality"), "{refused}");
}

#[test]
fn several_fields_of_one_message() {
    let spec = || json(vec![field("t.f64", "/a/v"), field("t.i64", "/n"), field("t.i64", "/n")]);
    let rows = decode(spec(), br#"{"n":3,"a":{"v":1.5}}"#).unwrap();
    assert_eq!(rows.iter().map(|row| row.point.0).collect::<Vec<_>>(), [5, 2, 2]);
    let some = decode(spec(), br#"{"n":3}"#).unwrap();
    assert_eq!(some.len(), 2);
    assert!(decode(spec(), b"{}").is_err());
    // One bad field refuses the message whole.
    assert!(decode(spec(), br#"{"n":3,"a":{"v":"x"}}"#).is_err());
    let many = (0..FIELDS_PER_MAPPING_MAX).map(|n| field("t.i64", &format!("/{n}"))).collect();
    let rows = decode(json(many), br#"{"255":7}"#).unwrap();
    assert_eq!(rows[0].value, Some(Value::I64(7)));
}

#[test]
fn topics_name_points() {
    let data = FieldSpec { encoding: Some(Encoding::Hex), ..field("n2k.{2}.{3}", "/data") };
    let spec = MappingSpec { filter: "vessel/n2k/+/+".into(), ..json(vec![data]) };
    let decoder = compile(spec);
    let decode = |topic| decoder.decode(topic, br#"{"data":"ff"}"#, RECEIVED, ClockQuality::Rtc);
    assert_eq!(decode("vessel/n2k/127250/7").unwrap()[0].point, PointId(9));
    let unknown = decode("vessel/n2k/1/2").unwrap_err();
    assert_eq!(unknown.code(), RefusalCode::UnknownPoint);
    assert!(unknown.text().contains(r#"no point "n2k.1.2"; declare it"#), "{unknown}");
    let unmapped = decode("vessel/other").unwrap_err();
    assert_eq!(unmapped.code(), RefusalCode::NoMapping);
    let text = r#"topic "vessel/other": no mapping takes this topic; add [[mapping]]"#;
    assert_eq!(unmapped.text(), text);
}

#[test]
fn raw_payloads_are_kept_bit_for_bit() {
    let raw = |point: &str| mapping(FormatSpec::Raw { point: point.into() }, Undecodable::Refuse);
    let all: Vec<u8> = (0..=255).collect();
    let rows = decode(raw("t.bytes"), &all).unwrap();
    assert_eq!(rows[0].value, Some(Value::Bytes(all.into())));
    assert!(decode(raw("t.bytes"), &[7; BYTES_BYTES_MAX]).is_ok());
    let over = decode(raw("t.bytes"), &[7; BYTES_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(over.code(), RefusalCode::TooLong);
    assert!(decode(raw("t.text"), &[b'x'; 256]).is_ok());
    assert_eq!(decode(raw("t.text"), &[b'x'; 257]).unwrap_err().code(), RefusalCode::TooLong);
    assert_eq!(decode(raw("t.text"), b"\xff").unwrap_err().code(), RefusalCode::Undecodable);
}

#[test]
fn what_cannot_be_read_is_kept_whole() {
    let spec = || {
        let fields = FormatSpec::Json(vec![field("t.i64", "/v")]);
        mapping(fields, Undecodable::Opaque("opaque".into()))
    };
    let check = |payload: &[u8]| {
        let rows = decode(spec(), payload).unwrap();
        let expect = Quality::new(Severity::Uncertain, Reason::Undecodable)
            .with_flags(Quality::SOURCE_TIME_MISSING);
        assert_eq!((rows.len(), rows[0].point, rows[0].quality), (1, PointId(8), expect));
        assert_eq!(rows[0].value, Some(Value::Bytes(bytes::Bytes::copy_from_slice(payload))));
    };
    check(b"");
    check(b"\x00\xff not json");
    check(br#"{"v":0.5}"#);
    check(&[b'x'; BYTES_BYTES_MAX]);
    let over = decode(spec(), &[b'x'; BYTES_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(over.code(), RefusalCode::TooLong);
    assert!(over.text().contains("4097 bytes, and at most 4096 are kept undecoded"), "{over}");
}

/// Point, value and source time.
type SenmlRow = (u32, Value, Option<i64>);

fn check_senml(payload: &str, expect: Result<&[SenmlRow], &str>) {
    match (decode(senml(), payload.as_bytes()), expect) {
        (Ok(rows), Ok(expect)) => {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|row| (row.point.0, row.value.unwrap(), row.source_time.map(|t| t.0)))
                .collect();
            assert_eq!(rows, expect, "for {payload}");
        }
        (Err(fault), Err(expect)) => assert!(fault.text().contains(expect), "{payload}: {fault}"),
        (outcome, expect) => panic!("for {payload}: {outcome:?}, expected {expect:?}"),
    }
}

#[test]
fn senml_packs() {
    use Value::{Bool, Bytes, F64, I64, Text, U64};
    check_senml(r#"[{"n":"t.f64","u":"Cel","v":23.1}]"#, Ok(&[(5, F64(23.1), None)]));
    check_senml(
        r#"[{"bn":"t.","bt":1.456689422364e9,"n":"f64","v":1},{"n":"bool","t":-1,"vb":true},
            {"n":"text","vs":"a\tb"},{"n":"bytes","vd":"-_8"}]"#,
        Ok(&[
            (5, F64(1.0), Some(MOMENT.0)),
            (1, Bool(true), Some(MOMENT.0 - 1_000_000_000)),
            (6, Text("a\tb".into()), Some(MOMENT.0)),
            (7, Bytes(bytes::Bytes::from_static(&[0xfb, 0xff])), Some(MOMENT.0)),
        ]),
    );
    let whole: i64 = 9_007_199_254_740_993;
    check_senml(
        r#"[{"bv":9007199254740992},{"n":"t.u64","v":1},{"n":"t.i64","v":1e0,"ut":10}]"#,
        Ok(&[(3, U64(whole.unsigned_abs()), None), (2, I64(whole), None)]),
    );
    check_senml(r#"[{"bv":0.5,"n":"t.f64","v":0.25}]"#, Ok(&[(5, F64(0.75), None)]));
    check_senml(r#"[{"bv":0.5,"n":"t.i64","v":0.25}]"#, Err("not a whole number"));
    // Times below 2^28 count from now.
    check_senml(
        r#"[{"n":"t.i64","v":1,"t":-1.5}]"#,
        Ok(&[(2, I64(1), Some(RECEIVED.0 - 1_500_000_000))]),
    );
    check_senml(
        r#"[{"n":"t.i64","v":1,"t":268435456}]"#,
        Ok(&[(2, I64(1), Some(268_435_456_000_000_000))]),
    );
    check_senml(r#"[{"n":"t.i64","v":1,"t":1e30}]"#, Err("lies outside"));
    // Separators that point names lack become dots; other spellings of units are known.
    check_senml(
        r#"[{"bn":"dev:press-1/","n":"humidity","u":"%RH","v":40}]"#,
        Ok(&[(10, F64(40.0), None)]),
    );
}

#[test]
fn senml_that_is_refused() {
    check_senml("[]", Err("expected '{' of a SenML record"));
    check_senml("[{}]", Err("without values"));
    check_senml("{}", Err("expected '[' of a SenML pack"));
    check_senml(r#"[{"n":"t.f64"}]"#, Err("without v, vs, vb or vd"));
    check_senml(r#"[{"v":1}]"#, Err("no SenML name"));
    check_senml(r#"[{"n":"_x","v":1}]"#, Err("no SenML name"));
    check_senml(r#"[{"n":"a b","v":1}]"#, Err("no SenML name"));
    check_senml(r#"[{"n":"t.f64","v":1},{"n":"nobody","v":1}]"#, Err(r#"no point "nobody""#));
    check_senml(r#"[{"n":"t.f64","v":1,"vs":"x"}]"#, Err("second value"));
    check_senml(r#"[{"n":"t.f64","v":1,"v":2}]"#, Err("stands twice"));
    check_senml(r#"[{"n":"t.f64","s":1}]"#, Err("sums are not taken"));
    check_senml(r#"[{"n":"t.f64","v":1,"must_":1}]"#, Err("must be understood"));
    check_senml(r#"[{"n":"t.i64","v":1,"may":{"s":[]}}]"#, Ok(&[(2, Value::I64(1), None)]));
    check_senml(r#"[{"bver":11,"n":"t.i64","v":1}]"#, Err("newer than 10"));
    check_senml(r#"[{"n":"t.f64","u":"K","v":1}]"#, Err(r#"unit "K" where the point has Cel"#));
    check_senml(r#"[{"n":"t.text","vd":"QUI"}]"#, Err("does not suit a point of type text"));
    check_senml(r#"[{"n":"t.bytes","vs":"00"}]"#, Err("does not suit a point of type bytes"));
    check_senml(r#"[{"n":"t.i64","v":1}] x"#, Err("expected the end"));
}

#[test]
fn rows_of_a_message_are_limited_exactly() {
    let pack = |rows: usize| format!("[{}]", vec![r#"{"n":"t.i64","v":1}"#; rows].join(","));
    let full = decode(senml(), pack(ROWS_PER_MESSAGE_MAX).as_bytes()).unwrap();
    assert_eq!(full.len(), ROWS_PER_MESSAGE_MAX);
    let over = decode(senml(), pack(ROWS_PER_MESSAGE_MAX + 1).as_bytes()).unwrap_err();
    assert_eq!(over.code(), RefusalCode::TooLong);
}

#[test]
fn mappings_are_checked_together() {
    let raw = |filter: &str, point: &str| MappingSpec {
        filter: filter.into(),
        format: FormatSpec::Raw { point: point.into() },
        undecodable: Undecodable::Refuse,
    };
    let opaque = MappingSpec { undecodable: Undecodable::Opaque("t.f64".into()), ..senml() };
    let needless = FieldSpec { encoding: Some(Encoding::Hex), ..field("t.f64", "/v") };
    let unencoded = FieldSpec { encoding: None, ..field("t.bytes", "/v") };
    let specs = [
        raw("a/#/b", "t.bytes"),
        raw("a", "nobody"),
        raw("a/+", "t.{2}"),
        raw("a", "t.f64"),
        json(vec![field("t.f64", "v"), needless, unencoded]),
        json(Vec::new()),
        opaque,
    ];
    let faults = Decoder::compile(&specs, &table()).unwrap_err();
    let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let expect = [
        "mapping 1: topic filter \"a/#/b\" is invalid: '#' may only stand at the end",
        "mapping 2: no declared point fits \"nobody\"; declare it with [[point]] or correct the name",
        "mapping 3: point \"t.{2}\" is no template: its topic filter has fewer levels",
        "mapping 4: point t.f64 is of type f64; use a point of type bytes or text",
        "mapping 5: \"v\" is no JSON pointer; write \"\" for the whole message or \"/name\" for a \
         member (RFC 6901)",
        "mapping 5: point t.f64 is of type f64; only bytes points are encoded",
        "mapping 5: point t.bytes is of type bytes; say encoding = \"hex\" or \"base64\"",
        "mapping 6: 0 fields; give it 1 to 256",
        "mapping 7: point t.f64 is of type f64; use a point of type bytes",
    ];
    assert_eq!(texts, expect);
    let many = vec![field("t.f64", "/v"); FIELDS_PER_MAPPING_MAX + 1];
    assert!(Decoder::compile(&[json(many)], &table()).is_err());
    assert!(Decoder::compile(&vec![senml(); MAPPINGS_MAX], &table()).is_ok());
    assert!(Decoder::compile(&vec![senml(); MAPPINGS_MAX + 1], &table()).is_err());
}

/// Bytes that come closer to the grammars than random ones.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"v\":",
        "\"t\":",
        "\"n\":\"t.f64\"",
        "\"bn\":\"t.\"",
        "1",
        "-",
        ".5",
        "e9",
        "e-999999999999999999999",
        "true",
        "null",
        "\\u",
        "\\ud83d",
        "\\",
        "é",
        "\"2016-02-28T19:57:02Z\"",
        " ",
        "\0",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        prop::collection::vec(pieces, 0..40).prop_map(|parts| parts.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_payload_gives_rows_or_a_text(bytes in payload(), topic in "\\PC{0,12}") {
        let fields = vec![timed(TimeFormat::Auto), field("t.text", "/s"), field("t.bytes", "/b")];
        for spec in [json(fields), senml(), json(vec![field("t.{1}", "/v")])] {
            let decoder = compile(MappingSpec { filter: "#".into(), ..spec });
            match decoder.decode(&topic, &bytes, RECEIVED, ClockQuality::Rtc) {
                Ok(rows) => prop_assert!(!rows.is_empty()),
                Err(refusal) => {
                    prop_assert!(refusal.text().len() <= REFUSAL_TEXT_BYTES_MAX);
                    prop_assert!(!refusal.text().contains(char::is_control));
                }
            }
        }
    }

    /// Our scanner takes exactly the texts that another parser takes.
    #[test]
    fn the_scanner_agrees_with_serde_json(bytes in payload()) {
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
        let ours = json::pick(text, &json::Wanted::default(), &mut []).is_ok();
        // Lone surrogates pass the scanner, which resolves only what is asked for.
        let lone = bytes.windows(4).any(|window| window.starts_with(b"\\ud8"));
        if !lone {
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn doubles_survive_their_text(bits: u64) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        let payload = serde_json::json!({ "v": double }).to_string();
        let rows = decode(json(vec![field("t.f64", "/v")]), payload.as_bytes()).unwrap();
        prop_assert_eq!(&rows[0].value, &Some(Value::F64(double)));
    }

    #[test]
    fn whole_numbers_survive_their_text(signed: i64, unsigned: u64) {
        let payload = format!(r#"{{"s":{signed},"u":{unsigned}}}"#);
        let fields = vec![field("t.i64", "/s"), field("t.u64", "/u")];
        let rows = decode(json(fields), payload.as_bytes()).unwrap();
        prop_assert_eq!(&rows[0].value, &Some(Value::I64(signed)));
        prop_assert_eq!(&rows[1].value, &Some(Value::U64(unsigned)));
    }

    #[test]
    fn texts_survive_escaping(text in "[\\PC\\x00-\\x1f\"\\\\]{0,60}") {
        let payload = serde_json::json!({ "v": text }).to_string();
        let rows = decode(json(vec![field("t.text", "/v")]), payload.as_bytes()).unwrap();
        prop_assert_eq!(&rows[0].value, &Some(Value::Text(text)));
    }
}

#[test]
fn remembered_routes_lead_where_a_look_up_does() {
    let raw = FormatSpec::Raw { point: "t.bytes".into() };
    let specs = [
        MappingSpec { filter: "dev/+/v".into(), ..json(vec![field("dev.{1}.humidity", "/v")]) },
        MappingSpec { filter: "raw/#".into(), ..mapping(raw, Undecodable::Refuse) },
        MappingSpec {
            filter: "two".into(),
            ..json(vec![field("t.i64", "/v"), field("t.u64", "/v")])
        },
    ];
    let decoder = Decoder::compile(&specs, &table()).unwrap();
    let mut routes = Routes::default();
    // More topics than places, so that they push each other out; long ones share a place.
    let many = (0..3000).map(|number| format!("raw/{number}"));
    let long = ["raw", "dev"].map(|first| format!("{first}/{}/v", "x".repeat(200)));
    let few = ["dev/press-1/v", "dev/press-2/v", "two", "nowhere"].map(str::to_owned);
    let topics: Vec<Arc<str>> = many.chain(long).chain(few).map(Arc::from).collect();
    for topic in topics.iter().chain(&topics).flat_map(|topic| [topic, topic]) {
        let payload = br#"{"v":1}"#;
        let looked_up = decoder.decode(topic, payload, RECEIVED, ClockQuality::Ntp);
        let by_route =
            decoder.decode_with(&mut routes, topic, payload, RECEIVED, ClockQuality::Ntp);
        assert_eq!(by_route, looked_up, "{topic}");
    }
}
