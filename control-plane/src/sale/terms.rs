//! The checked inputs of a sale.

use prost_types::{Duration, Timestamp};
use proto::fault::Fault;
use proto::limits::{ADMISSION_RATE, CAP_MAX, HOLD_TTL_MS, SALE_MS_MAX, SALE_UNITS_MAX};
use proto::wire::admin::{self, sale::Class};
use proto::wire::cell::SaleRecord;

use super::{class_of, money, time};

/// Characters of a name for people.
pub(crate) const DISPLAY_NAME_CHARS_MAX: usize = 200;
/// How long a hold lasts unless said otherwise.
const HOLD_TTL_MS_DEFAULT: u32 = 120_000;
/// Tickets a second unless said otherwise.
const ADMISSION_RATE_DEFAULT: u32 = 1_000;
/// How long an admitted ticket is kept unless said otherwise.
const KEEPING_MS_DEFAULT: u32 = 30_000;
/// How far in the past a start may lie: calls take time and clocks differ.
const START_GRACE_MS: u64 = 5_000;

/// What a merchant wants, checked field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub(super) display_name: String,
    pub(super) class: Class,
    pub(super) stock: u32,
    pub(super) cap: u32,
    pub(super) price_minor: i64,
    pub(super) currency: String,
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    pub(super) hold_ttl_ms: u32,
    pub(super) admission_rate: u32,
    pub(super) keeping_ms: u32,
}

impl Terms {
    /// Reads the inputs of a sale, with defaults for what was left out.
    ///
    /// # Errors
    /// A complaint about the first field that does not do. Whether its times lie ahead is left to [`Self::ahead`].
    pub fn read(sale: &admin::Sale) -> Result<Terms, Fault> {
        let class = class_of(sale.class)
            .ok_or_else(|| Fault::field("sale.class", "must be FLASH or STANDARD"))?;
        let price = sale.price.as_ref().ok_or_else(|| Fault::field("sale.price", "is missing"))?;
        let (price_minor, currency) =
            money::minor(price).map_err(|bad| Fault::field("sale.price", bad.to_string()))?;
        let terms = Terms {
            display_name: display_name("sale.display_name", &sale.display_name)?,
            class,
            stock: within("sale.stock", sale.stock, 1, SALE_UNITS_MAX)?,
            cap: within("sale.cap", sale.cap, 1, CAP_MAX)?,
            price_minor,
            currency,
            start_ms: point("sale.start_time", sale.start_time.as_ref())?,
            end_ms: point("sale.end_time", sale.end_time.as_ref())?,
            hold_ttl_ms: span("sale.hold_ttl", sale.hold_ttl.as_ref(), HOLD_TTL_MS_DEFAULT)?,
            admission_rate: match sale.admission_rate {
                0 => ADMISSION_RATE_DEFAULT,
                rate => {
                    let (least, most) = (*ADMISSION_RATE.start(), *ADMISSION_RATE.end());
                    within("sale.admission_rate", rate, least, most)?
                }
            },
            keeping_ms: span("sale.keeping_time", sale.keeping_time.as_ref(), KEEPING_MS_DEFAULT)?,
        };
        terms.in_order()?;
        Ok(terms)
    }

    fn in_order(&self) -> Result<(), Fault> {
        if self.end_ms == 0 {
            return Err(Fault::field("sale.end_time", "is missing"));
        }
        if self.class == Class::Flash && self.start_ms == 0 {
            return Err(Fault::field(
                "sale.start_time",
                "is missing; only a STANDARD sale has none",
            ));
        }
        if self.end_ms <= self.start_ms {
            return Err(Fault::field("sale.end_time", "must be after start_time"));
        }
        Ok(())
    }

    /// Checks that the sale can still take place as a whole.
    ///
    /// # Errors
    /// A complaint about the time that has passed, or about a sale that is too long.
    pub fn ahead(&self, now_ms: u64) -> Result<(), Fault> {
        if self.end_ms <= now_ms {
            return Err(Fault::field("sale.end_time", "must be in the future"));
        }
        if self.class == Class::Flash && self.start_ms.saturating_add(START_GRACE_MS) < now_ms {
            return Err(Fault::field("sale.start_time", "must not be in the past"));
        }
        self.short_enough(now_ms)
    }

    /// Checks only how long the sale is: from its start, or from now when it has none.
    pub(super) fn short_enough(&self, now_ms: u64) -> Result<(), Fault> {
        let start_ms = if self.start_ms == 0 { now_ms } else { self.start_ms };
        if self.end_ms.saturating_sub(start_ms) > SALE_MS_MAX {
            return Err(Fault::field("sale.end_time", "must be at most 400 days after the start"));
        }
        Ok(())
    }

    /// The terms of a sale that was written down.
    pub fn of(sale: &SaleRecord) -> Terms {
        Terms {
            display_name: sale.display_name.clone(),
            class: class_of(sale.class).unwrap_or(Class::Flash),
            stock: sale.stock,
            cap: sale.cap,
            price_minor: sale.price_minor,
            currency: sale.currency.clone(),
            start_ms: sale.start_ms,
            end_ms: sale.end_ms,
            hold_ttl_ms: sale.hold_ttl_ms,
            admission_rate: sale.admission_rate,
            keeping_ms: sale.keeping_ms,
        }
    }

    /// Writes the terms down.
    pub fn write_to(&self, sale: &mut SaleRecord) {
        sale.display_name.clone_from(&self.display_name);
        sale.class = self.class.into();
        sale.stock = self.stock;
        sale.cap = self.cap;
        sale.price_minor = self.price_minor;
        sale.currency.clone_from(&self.currency);
        sale.start_ms = self.start_ms;
        sale.end_ms = self.end_ms;
        sale.hold_ttl_ms = self.hold_ttl_ms;
        sale.admission_rate = self.admission_rate;
        sale.keeping_ms = self.keeping_ms;
    }

    /// The terms as a merchant writes them.
    pub(super) fn message(&self) -> admin::Sale {
        admin::Sale {
            display_name: self.display_name.clone(),
            class: self.class.into(),
            stock: self.stock,
            cap: self.cap,
            price: money::money(self.price_minor, &self.currency),
            start_time: (self.start_ms > 0).then(|| time::timestamp(self.start_ms)),
            end_time: Some(time::timestamp(self.end_ms)),
            hold_ttl: Some(time::duration(self.hold_ttl_ms.into())),
            admission_rate: self.admission_rate,
            keeping_time: Some(time::duration(self.keeping_ms.into())),
            ..admin::Sale::default()
        }
    }
}

/// A name for people.
pub(crate) fn display_name(field: &'static str, name: &str) -> Result<String, Fault> {
    if name.chars().count() > DISPLAY_NAME_CHARS_MAX {
        return Err(Fault::field(field, "must have at most 200 characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(Fault::field(field, "must not have control characters"));
    }
    Ok(name.to_owned())
}

fn within(field: &'static str, value: u32, least: u32, most: u32) -> Result<u32, Fault> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Fault::field(field, format!("must be {least} to {most}")))
    }
}

fn point(field: &'static str, time: Option<&Timestamp>) -> Result<u64, Fault> {
    let Some(time) = time else { return Ok(0) };
    time::unix_ms(time).ok_or_else(|| Fault::field(field, "is not a time after 1970"))
}

fn span(field: &'static str, duration: Option<&Duration>, default_ms: u32) -> Result<u32, Fault> {
    let Some(duration) = duration else { return Ok(default_ms) };
    time::duration_ms(duration)
        .filter(|ms| HOLD_TTL_MS.contains(ms))
        .and_then(|ms| u32::try_from(ms).ok())
        .ok_or_else(|| Fault::field(field, "must be 1 s to 1 h"))
}
