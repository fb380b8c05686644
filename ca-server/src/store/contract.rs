//! The one suite that every [`Store`](super::Store) must pass, whatever lies under it: what the traits promise, each
//! promise a test. A store runs it by naming its [`Place`] in `store_contract!`.

pub(crate) mod audit;
pub(crate) mod bulk;
pub(crate) mod cutoff;
pub(crate) mod durability;
pub(crate) mod enrollment;
pub(crate) mod hardware;
pub(crate) mod lists;
pub(crate) mod newcomers;
pub(crate) mod past;
pub(crate) mod publication;
pub(crate) mod quotas;
pub(crate) mod release;
pub(crate) mod renewal;
mod world;

pub(crate) use world::{Place, World, at, cutoff, device, draft};

/// Makes tests of functions that take the place's type.
macro_rules! tests {
    ($place:ty; $($room:ident { $($name:ident,)* })*) => {$(
        mod $room {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    $crate::store::contract::$room::$name::<$place>().await;
                }
            )*
        }
    )*};
}
pub(crate) use tests;

/// The suite for the store of one place.
macro_rules! store_contract {
    ($place:ty) => {
        $crate::store::contract::tests! { $place;
            enrollment {
                a_new_ca_answers_with_what_it_was_given,
                a_second_initialization_is_refused_and_changes_nothing,
                an_enrolled_device_is_found_by_its_certificate,
                an_id_that_differs_in_case_only_conflicts,
                fifty_uses_of_one_token_make_one_certificate,
                a_fleet_token_counts_its_uses_down,
                a_token_that_is_revoked_expired_or_spent_conflicts,
                a_key_of_another_device_conflicts,
                hardware_that_two_devices_claim_at_once_is_one_devices,
                a_device_registered_with_its_token_enrolls_as_it_was_read,
                a_second_enrollment_supersedes_what_was_pending,
                names_that_are_taken_in_whatever_case_are_refused,
                a_policy_is_swapped_only_for_the_one_that_was_read,
                an_unknown_fleet_or_issuer_is_named,
            }
            hardware {
                twenty_tpms_that_race_for_one_device_are_one,
                hardware_that_is_added_while_others_claim_it_is_one_devices,
                hardware_that_was_retired_lets_in_nobody_who_was_decided_upon_before,
                a_key_that_was_retired_lets_in_nobody_who_was_decided_upon_before,
            }
            newcomers {
                an_approval_lets_in_what_was_seen_and_once,
                what_asks_for_something_else_has_to_be_seen_again,
                what_waits_is_bounded_evicts_nobody_and_is_forgotten,
                what_waits_keeps_no_name_and_no_hardware_from_an_operator,
                two_who_ask_with_one_identity_at_once_are_one,
                who_was_let_in_by_another_policy_is_not_recorded,
                who_was_rejected_is_not_recorded_until_that_is_forgotten,
            }
            renewal {
                a_renewal_waits_for_its_confirmation,
                fifty_racing_renewals_make_one_certificate,
                a_pending_certificate_that_is_replaced_is_superseded,
                a_head_that_was_followed_is_remembered_as_former,
                a_holder_that_changed_meanwhile_conflicts,
                what_decides_a_renewal_is_read_in_one_look,
            }
            cutoff {
                a_revoked_device_loses_all_its_unexpired_certificates_at_once,
                a_cutoff_beats_a_renewal_decided_before_it,
                a_cutoff_that_races_renewals_leaves_no_certificate_in_force,
                doing_it_again_changes_nothing_and_answers_the_same_watermark,
                a_revoked_device_never_goes_back_on_hold,
                a_device_that_has_never_enrolled_is_held_and_registered_again_after_that,
                revoking_what_is_on_hold_changes_its_reason_and_keeps_its_date,
                a_superseded_certificate_stays_superseded_unless_keys_were_stolen,
                a_stolen_key_is_banned_for_ever_under_any_id,
                theft_found_out_later_is_recorded_even_of_the_decommissioned,
                tokens_end_with_their_device_and_so_does_the_fleet_token_it_came_by,
                a_hold_leaves_tokens_alone,
                a_device_that_does_not_exist_is_named,
                every_change_has_the_next_number,
            }
            bulk {
                what_the_plan_says_of_many_is_what_is_done,
                many_change_all_or_none,
                many_are_released_where_they_are_held_and_nobody_has_to_decide,
                who_is_cut_off_already_keeps_no_way_back_among_many_either,
            }
            release {
                a_hold_that_ends_puts_everything_back_in_force,
                after_a_fork_one_certificate_stays,
                a_certificate_that_is_not_the_holders_cannot_be_kept,
                only_what_is_held_and_unchanged_is_released,
            }
            quotas {
                a_fleet_never_has_more_devices_than_it_may,
                a_fleet_that_is_full_uses_up_no_approval_and_no_token,
                rows_that_are_too_many_are_told_by_the_line_of_the_first,
                no_more_enroll_in_an_hour_than_may,
            }
            publication {
                crl_numbers_only_grow,
                the_first_crl_that_holds_a_change_is_known,
                trust_bundles_only_grow,
                a_device_is_found_by_its_handle_where_it_has_certificates,
                changes_come_in_order_from_any_number_on,
                what_expires_within_a_time_is_found_by_when_it_does,
            }
            past {
                a_lost_time_ends_tokens_and_operators_once,
                a_lost_time_closes_every_fleet_that_takes_devices_that_nobody_registered,
                a_decision_is_made_once,
                nobody_is_let_in_until_somebody_has_decided,
                a_crl_is_remembered_until_nobody_takes_it,
                a_crl_that_is_taken_back_stands_for_those_before_it,
                a_certificate_whose_revocation_was_known_only_becomes_its_holders,
                a_certificate_of_a_lost_time_is_taken_in_once,
                the_last_word_of_a_gateway_counts,
            }
            audit {
                records_have_no_gap_and_time_never_goes_back,
                a_record_reads_back_as_it_was_hashed,
                a_cutoff_tells_which_certificates_and_tokens,
                records_are_found_by_subject_and_action_in_both_directions,
                seals_follow_each_other_without_a_gap,
                events_are_counted_by_the_hour_and_bounded,
            }
            lists {
                every_device_is_listed_once_whatever_the_page_and_the_order,
                filters_together_leave_what_fits_all_of_them,
                a_page_of_another_order_is_refused,
                a_device_that_leaves_meanwhile_hides_no_other,
                fleets_holders_and_tokens_are_paged_completely,
                counts_tell_the_lapsed_apart,
            }
            durability {
                what_was_acknowledged_survives_a_crash,
                a_closed_store_opens_as_it_was,
                a_failed_job_takes_no_other_with_it,
                a_failed_job_leaves_no_trace,
                a_caller_that_goes_away_does_not_undo_what_it_asked,
                a_store_that_can_be_written_says_so,
            }
        }
    };
}
pub(crate) use store_contract;
