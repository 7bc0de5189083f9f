#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    guan_tests::targets::carried(data);
});
