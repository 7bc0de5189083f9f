//! The rows, in the order of research/log.md, section 4.

/// One attack.
pub(crate) struct Row {
    pub(crate) attack: &'static str,
    /// Who sees it, and by what.
    #[expect(dead_code, reason = "for readers")]
    pub(crate) seen_by: &'static str,
    /// The specification names a TPM.
    pub(crate) needs_tpm: bool,
    /// Files and the tests in them.
    pub(crate) tests: &'static [(&'static str, &'static str)],
}

const ROLLBACK: &str = "tests/attacks/rollback.rs";
const REWRITING: &str = "tests/attacks/rewriting.rs";
const MACHINES: &str = "tests/attacks/machines.rs";
const VERIFY: &str = "gateway/evidence/src/verify/attacks.rs";
const E2E: &str = "tests/e2e/evidence.rs";
const REBUILT: &str = "tests/attacks/rebuilt.rs";
const MENDING: &str = "tests/e2e/mending.rs";
const SCRUB: &str = "gateway/edge/src/run/scrubbing.rs";
const REFILL: &str = "gateway/log/src/tests/refill.rs";
const ROT: &str = "gateway/log/src/tests/rot.rs";
const LOG: &str = "gateway/log/src/tests.rs";
const ENGINE: &str = "gateway/edge/src/engine/tests.rs";
const LOGS: &str = "gateway/space/src/logs/tests.rs";

pub(crate) const ROWS: &[Row] = &[
    Row {
        attack: "change an entry",
        seen_by: "auditor and others' tools: the root that was signed",
        needs_tpm: false,
        tests: &[(VERIFY, "change_an_entry"), (E2E, "a_log_is_anchored_cosigned_and_mirrored")],
    },
    Row {
        attack: "delete, insert or reorder entries",
        seen_by: "auditor: index in the entry, root",
        needs_tpm: false,
        tests: &[(VERIFY, "delete_insert_or_reorder")],
    },
    Row {
        attack: "truncate the tail, key not stolen",
        seen_by: "start and auditor: chain over all boots, register of heads, resets",
        needs_tpm: true,
        tests: &[
            (ROLLBACK, "a_cut_tail_is_suspect_at_the_next_start"),
            (ROLLBACK, "a_cut_within_a_boot_is_suspect"),
            (REBUILT, "a_log_that_begins_anew_is_suspect"),
            (REBUILT, "an_epoch_is_suspect_only_if_it_hides_a_head"),
            (LOG, "a_loss_ends_the_log_and_begins_another"),
        ],
    },
    Row {
        attack: "truncate and continue",
        seen_by: "witness: 409, then 422 and a fork; auditor: the chain does not replay",
        needs_tpm: true,
        tests: &[(ROLLBACK, "what_is_written_on_after_a_cut_is_refused")],
    },
    Row {
        attack: "sign an old range with today's key",
        seen_by: "auditor: ranges of keys; the quote over the hand-over",
        needs_tpm: true,
        tests: &[
            (REWRITING, "todays_key_signs_no_older_range"),
            (REBUILT, "a_log_that_is_written_anew_is_suspect"),
            (VERIFY, "sign_an_old_range_with_todays_key"),
        ],
    },
    Row {
        attack: "fork, split view",
        seen_by: "witness: 422, the fork is kept",
        needs_tpm: false,
        tests: &[
            (ROLLBACK, "a_second_history_and_an_old_head_are_refused"),
            (LOGS, "forks_are_kept_and_told"),
        ],
    },
    Row {
        attack: "replay an old head as the newest",
        seen_by: "witness: 409 with its size",
        needs_tpm: false,
        tests: &[(ROLLBACK, "a_second_history_and_an_old_head_are_refused")],
    },
    Row {
        attack: "backdate or post-date",
        seen_by: "auditor: cosignatures bracket the boot; the box does not believe its clock",
        needs_tpm: true,
        tests: &[
            (ROLLBACK, "a_clock_that_lies_is_bracketed"),
            ("tests/e2e/main.rs", "a_wrong_clock_is_carried_on_and_told"),
        ],
    },
    Row {
        attack: "clone the disk, also with a virtual TPM",
        seen_by: "start: nothing opens, no quote; auditor: another key; virtual TPM: witness",
        needs_tpm: true,
        tests: &[
            (MACHINES, "a_copied_disk_is_worth_nothing_on_another_tpm"),
            (MACHINES, "a_copied_disk_with_a_new_key_is_another_box"),
            (MACHINES, "a_copied_virtual_tpm_is_seen_by_the_witness_at_the_second_head"),
            ("tests/e2e/attestation.rs", "a_cloned_disk_is_worth_nothing_without_its_tpm"),
        ],
    },
    Row {
        attack: "rewrite the offline weeks as root and sign everything anew",
        seen_by: "auditor: resets in quotes and certificates, chain, missing start of the TPM",
        needs_tpm: true,
        tests: &[(REWRITING, "weeks_that_are_written_anew_do_not_get_their_anchors_back")],
    },
    Row {
        attack: "certify one counter value for two heads",
        seen_by: "not by the counter; auditor: the digest over heads takes one",
        needs_tpm: true,
        tests: &[(
            REWRITING,
            "one_value_is_certified_for_two_heads_by_a_counter_and_not_by_the_chain",
        )],
    },
    Row {
        attack: "cut the power again and again to silence the TPM",
        seen_by: "anchors go on; each start tells the count",
        needs_tpm: true,
        tests: &[
            (MACHINES, "power_cuts_are_counted_and_silence_nothing"),
            ("tests/tpm/trail.rs", "power_cuts_do_not_silence_the_anchors"),
        ],
    },
    Row {
        attack: "swap the log's key",
        seen_by: "witness: 403; auditor: no hand-over leads to it",
        needs_tpm: false,
        tests: &[
            (REWRITING, "another_key_of_the_log_is_refused"),
            (VERIFY, "swap_the_key_of_the_log"),
        ],
    },
    Row {
        attack: "forged line of the TPM, wrong nonce",
        seen_by: "auditor; tpm2_checkquote and OpenSSL among the others' tools",
        needs_tpm: true,
        tests: &[
            (REWRITING, "a_flipped_bit_of_a_statement_is_seen"),
            ("tests/e2e/attestation.rs", "a_box_joins_is_appraised_and_delivers"),
            (E2E, "a_log_is_anchored_cosigned_and_mirrored"),
        ],
    },
    Row {
        attack: "delete and define the TPM's index anew",
        seen_by: "the TPM, without the owner's password; start; auditor: resets, chain",
        needs_tpm: true,
        tests: &[
            (REWRITING, "a_chain_that_is_made_anew_is_seen"),
            ("tests/tpm/memory.rs", "each_release_counts_once_and_the_counter_never_goes_back"),
        ],
    },
    Row {
        attack: "clear the TPM",
        seen_by: "start; auditor: the key is another one, and nothing ties the two",
        needs_tpm: true,
        tests: &[
            (MACHINES, "a_cleared_tpm_vouches_for_nothing_of_before"),
            ("tests/e2e/attestation.rs", "a_cleared_tpm_joins_again"),
        ],
    },
    Row {
        attack: "bit-rot",
        seen_by: "start: hashes in the journal and of bundles; scrub; auditor; a mirror that lies gives nothing back",
        needs_tpm: false,
        tests: &[
            (ROT, "flipped_bits_of_the_journal_are_told"),
            (ROT, "flipped_bits_of_bundles_are_told"),
            (ENGINE, "a_damaged_bundle_is_recorded_once"),
            (SCRUB, "damage_is_seen_wherever_it_lies"),
            (REFILL, "a_bundle_comes_back_only_as_it_was"),
            (REFILL, "lost_leaves_come_back_into_the_epoch_that_lost_them"),
            (MENDING, "a_damaged_bundle_comes_back_from_an_honest_mirror_only"),
            (MENDING, "a_start_remembers_what_is_damaged_until_it_is_back"),
            (MENDING, "an_epoch_that_lost_entries_is_whole_again"),
        ],
    },
    Row {
        attack: "torn write, lost rename",
        seen_by: "start: the longest whole prefix",
        needs_tpm: false,
        tests: &[
            (ROT, "a_torn_journal_gives_the_longest_prefix"),
            (ENGINE, "what_was_answered_survives_a_power_cut"),
            (LOGS, "mirrored_leaves_survive_crashes"),
        ],
    },
    Row {
        attack: "fill the disk",
        seen_by: "box: what cannot be logged is refused",
        needs_tpm: false,
        tests: &[(ENGINE, "a_full_disk_refuses_and_recovers"), (LOG, "a_full_disk_loses_no_leaf")],
    },
    Row {
        attack: "edit a value, leave the tree",
        seen_by: "auditor: hashes come from the bytes, never from files of hashes",
        needs_tpm: false,
        tests: &[
            (ENGINE, "an_edited_leaf_is_seen"),
            ("gateway/verify/tests/bundle/hostile.rs", "what_nobody_signed_is_checked_or_told"),
        ],
    },
    Row {
        attack: "switch the log off, leave anchors out",
        seen_by: "auditor: a boot without its TPM, an unanchored interval, missing boots",
        needs_tpm: true,
        tests: &[
            (MACHINES, "silence_is_told"),
            (VERIFY, "switch_the_log_off_or_leave_the_anchors_out"),
        ],
    },
    Row {
        attack: "lie before logging",
        seen_by: "outside the log's power, and the README says so; the space appraises what has booted",
        needs_tpm: false,
        tests: &[(
            "tests/e2e/sealed.rs",
            "an_unknown_firmware_is_shut_out_until_the_space_sends_its_policy",
        )],
    },
    Row {
        attack: "flood to hide or to wear the flash",
        seen_by: "box: facts in bulk make one entry a commit, what repeats makes none",
        needs_tpm: false,
        tests: &[(ENGINE, "a_flood_is_summed_up")],
    },
    Row {
        attack: "witness and gateway collude",
        seen_by: "auditor: a policy asks for two witnesses of three",
        needs_tpm: false,
        tests: &[("gateway/evidence/src/policy/tests.rs", "simple_quorums")],
    },
];
