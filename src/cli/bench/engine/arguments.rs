//! What can be typed after `overlay bench engine`.

use std::path::PathBuf;

use clap::Args;

use crate::engine::filter::RangeFilter;

#[derive(Debug, Args)]
pub struct BenchEngineArgs {
    /// The data set's folder
    #[arg(long, value_name = "DIR")]
    pub dataset: PathBuf,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// What is counted and fetched
    #[arg(long, value_name = "PARAMETER,MIN,MAX", default_value = "PM2.5,5,35", value_parser = bench_range)]
    pub range: BenchRange,
    /// The row that remote_point asks for; default: one of the first day
    #[arg(long, value_name = "FULL_AQS_ID,PARAMETER,UTC", value_parser = bench_point)]
    pub point: Option<BenchPoint>,
    /// What warm_sql asks, of the table `observations`; can be given several times
    #[arg(long, value_name = "STATEMENT")]
    pub sql: Vec<String>,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub only: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ColdCountArgs {
    #[arg(long)]
    pub cache: PathBuf,
    #[arg(long, value_parser = bench_range)]
    pub range: BenchRange,
}

/// A parameter and the range of its concentration, both ends included.
#[derive(Debug, Clone)]
pub struct BenchRange {
    pub parameter: String,
    pub min: f64,
    pub max: f64,
}

impl std::fmt::Display for BenchRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{}", self.parameter, self.min, self.max)
    }
}

impl BenchRange {
    /// The range as a query.
    pub fn filter(&self) -> RangeFilter {
        RangeFilter {
            parameter: Some(self.parameter.clone()),
            min: Some(self.min),
            max: Some(self.max),
            ..RangeFilter::default()
        }
    }
}

fn bench_range(text: &str) -> Result<BenchRange, String> {
    let [parameter, min, max] = text.split(',').collect::<Vec<_>>()[..] else {
        return Err("write PARAMETER,MIN,MAX".to_owned());
    };
    let number = |text: &str| match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number")),
    };
    Ok(BenchRange { parameter: parameter.to_owned(), min: number(min)?, max: number(max)? })
}

/// One site, parameter and hour.
#[derive(Debug, Clone)]
pub struct BenchPoint {
    pub site: String,
    pub parameter: String,
    /// Such as 2020-09-01T05:00:00.
    pub utc: String,
}

fn bench_point(text: &str) -> Result<BenchPoint, String> {
    match text.split(',').collect::<Vec<_>>()[..] {
        [site, parameter, utc] => {
            Ok(BenchPoint { site: site.to_owned(), parameter: parameter.to_owned(), utc: utc.to_owned() })
        }
        _ => Err("write FULL_AQS_ID,PARAMETER,UTC".to_owned()),
    }
}
