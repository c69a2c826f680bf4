//! CronJobs.

use api::field::{FieldErrors, Path};
use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use super::job::{default_nested, template_spec};
use super::schedule;
use crate::age;
use crate::core::pod_spec::not_supported_unsorted;
use crate::rows;
use crate::shown;
use crate::strategy::{Generation, Request, Strategy, keep_status};
use crate::tree::{at, default_text, default_to, enter, flag, list, opt_flag, opt_text, put, same_at, some, text};
use crate::workload::optional_non_negative;

/// The cron job strategy.
#[derive(Debug)]
pub(crate) struct CronJob;

/// A job's name is the cron job's with eleven characters more.
const NAME_MAX: usize = 52;

impl Strategy for CronJob {
    fn generation(&self) -> Generation {
        Generation::Spec
    }

    fn default(&self, object: &mut Value, _request: &Request<'_>) {
        let spec = enter(object, "spec");
        default_text(spec, "concurrencyPolicy", "Allow");
        default_to(spec, "suspend", false);
        default_to(spec, "successfulJobsHistoryLimit", 3);
        default_to(spec, "failedJobsHistoryLimit", 1);
        let template = enter(spec, "jobTemplate");
        enter(template, "metadata");
        default_nested(enter(template, "spec"));
    }

    fn prepare_create(&self, object: &mut Value, _request: &Request<'_>) {
        put(object, "status", json!({}));
    }

    fn validate_create(&self, object: &Value, _request: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(object, "spec"), None, errors);
        let name = meta::name(object);
        if name.len() > NAME_MAX {
            let detail = format!("must be no more than {NAME_MAX} characters");
            errors.invalid(&Path::new("metadata").child("name"), name, &detail);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _request: &Request<'_>) {
        keep_status(new, old);
    }

    fn validate_update(&self, new: &Value, old: &Value, _: &Request<'_>, errors: &mut FieldErrors) {
        validate(at(new, "spec"), Some(at(old, "spec")), errors);
    }

    fn row(&self, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
        let (spec, status) = (at(object, "spec"), at(object, "status"));
        let job = at(at(spec, "jobTemplate"), "spec");
        let [names, images] = rows::names_and_images(at(at(job, "template"), "spec"));
        let last = opt_text(status, "lastScheduleTime");
        Some(vec![
            rows::name(object),
            json!(text(spec, "schedule")),
            json!(opt_text(spec, "timeZone").unwrap_or(rows::NONE)),
            json!(match opt_flag(spec, "suspend") {
                None => rows::UNSET,
                Some(true) => "True",
                Some(false) => "False",
            }),
            json!(list(status, "active").len()),
            json!(last.map_or(rows::NONE.to_owned(), |last| age::since(last, now))),
            rows::age(object, now),
            names,
            images,
            json!(rows::selector(at(job, "selector"))),
        ])
    }
}

fn validate(spec: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let schedule = text(spec, "schedule");
    if !schedule.is_empty() {
        let tolerated = old.is_some_and(|old| text(old, "schedule").contains("TZ"));
        schedule_format(spec, schedule, tolerated, &path.child("schedule"), errors);
    }
    optional_non_negative(spec, "startingDeadlineSeconds", &path, errors);
    if !old.is_some_and(|old| same_at(old, spec, "timeZone"))
        && let Some(zone) = opt_text(spec, "timeZone")
    {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    match text(spec, "concurrencyPolicy") {
        "Allow" | "Forbid" | "Replace" => {}
        "" => errors.required(&path.child("concurrencyPolicy"), ""),
        other => {
            let allowed = ["Allow", "Forbid", "Replace"];
            not_supported_unsorted(&path.child("concurrencyPolicy"), other, &allowed, errors);
        }
    }
    job_template(spec, &path.child("jobTemplate"), errors);
    optional_non_negative(spec, "successfulJobsHistoryLimit", &path, errors);
    optional_non_negative(spec, "failedJobsHistoryLimit", &path, errors);
    // Declarative rules come last upstream.
    if schedule.is_empty() {
        errors.required(&path.child("schedule"), "");
    }
}

fn job_template(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let job = at(at(spec, "jobTemplate"), "spec");
    template_spec(job, &path.child("spec"), errors);
    if let Some(selector) = some(job, "selector") {
        let path = path.child("spec.selector");
        shown::invalid(&path, &shown::selector(selector), "`selector` will be auto-generated", errors);
    }
    if flag(job, "manualSelector") {
        not_supported_unsorted_flag(&path.child("spec.manualSelector"), errors);
    }
}

fn not_supported_unsorted_flag(path: &Path<'_>, errors: &mut FieldErrors) {
    shown::not_supported(path, "true", &["nil", "false"], errors);
}

fn schedule_format(spec: &Value, schedule: &str, tolerated: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    if let Some(complaint) = schedule::complaint(schedule) {
        errors.invalid(path, schedule, &complaint);
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !tolerated {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(path, schedule, detail);
    } else if opt_text(spec, "timeZone").is_some() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.invalid(path, schedule, detail);
    }
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    if zone.is_empty() {
        errors.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let malformed = |part: &str| {
        matches!(part, "." | "..")
            || part.starts_with('-')
            || !(1..=14).contains(&part.len())
            || !part.chars().all(known)
    };
    if zone.split('/').any(malformed) {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
    } else if jiff::tz::TimeZone::get(zone).is_err() {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    }
}
