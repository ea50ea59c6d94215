//! Functions of times, computed once for each distinct time of a batch.
//!
//! A day has twelve or twenty-four hours, and DataFusion's `date_trunc` and `date_part` take a calendar and a time zone to
//! each row: more than all the rest of a query that groups by hour or day. Here the distinct times of a batch are found
//! first, DataFusion's own function is applied to those, and its answers are dealt out to the rows.
//!
//! The argument for equal answers: both functions look at each value alone, so rows of one time have one answer; which
//! answer that is, for which types and arguments, when they fail, and what the optimizer may know of them, stays the
//! function's own. What is not of the form for it, one column of whole seconds without nulls and constants beside it, or
//! has too many different times, goes to the function as it is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampSecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef, TimeUnit, TimestampSecondType};
use datafusion::common::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::coded::Distinct;

/// The functions that this is worth.
const NAMES: [&str; 2] = ["date_trunc", "date_part"];

/// Fewer rows a distinct time than this are not worth it.
const ROWS_PER_TIME_MIN: usize = 4;

/// One of these functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfDistinct(Arc<ScalarUDF>);

/// The functions, those of [`NAMES`] by distinct times.
pub fn by_distinct(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let wrap = |function: Arc<ScalarUDF>| match NAMES.contains(&function.name()) {
        true => Arc::new(ScalarUDF::new_from_impl(OfDistinct(function))),
        false => function,
    };
    functions.into_iter().map(wrap).collect()
}

/// Gives `EXTRACT(part FROM time)` the same function as `date_part(part, time)`.
#[derive(Debug)]
pub struct ExtractByDistinct(Arc<ScalarUDF>);

impl ExtractByDistinct {
    /// Of these functions; `None` if there is no `date_part` among them.
    pub fn of(functions: &[Arc<ScalarUDF>]) -> Option<ExtractByDistinct> {
        functions.iter().find(|function| function.name() == "date_part").cloned().map(ExtractByDistinct)
    }
}

impl ExprPlanner for ExtractByDistinct {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let function = ScalarFunction::new_udf(Arc::clone(&self.0), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(function)))
    }
}

/// The distinct times of a column, and for each row the place of its own.
fn distinct_times(times: &TimestampSecondArray) -> Option<(ArrayRef, UInt32Array)> {
    let values_max = (times.len() / ROWS_PER_TIME_MIN).min(usize::from(u16::MAX));
    let mut distinct = Distinct::new(values_max);
    let mut places = Vec::with_capacity(times.len());
    for time in times.values() {
        places.push(u32::from(distinct.code(*time as u64)?));
    }
    let values = TimestampSecondArray::from_iter_values(distinct.values().iter().map(|bits| *bits as i64));
    let values = values.with_data_type(times.data_type().clone());
    Some((Arc::new(values), UInt32Array::from(places)))
}

impl ScalarUDFImpl for OfDistinct {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.inner().aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.0.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.0.inner().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.0.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.inner().return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.0.inner().is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut columns = args.args.iter().enumerate().filter_map(|(place, value)| match value {
            ColumnarValue::Array(array) => Some((place, array)),
            ColumnarValue::Scalar(_) => None,
        });
        let found = match (columns.next(), columns.next()) {
            (Some((place, array)), None)
                if matches!(array.data_type(), DataType::Timestamp(TimeUnit::Second, _)) && array.null_count() == 0 =>
            {
                distinct_times(array.as_primitive::<TimestampSecondType>()).map(|found| (place, found))
            }
            _ => None,
        };
        let Some((place, (times, places))) = found else { return self.0.inner().invoke_with_args(args) };
        let mut of_distinct = ScalarFunctionArgs { number_rows: times.len(), ..args };
        of_distinct.args[place] = ColumnarValue::Array(times);
        Ok(match self.0.inner().invoke_with_args(of_distinct)? {
            ColumnarValue::Array(answers) => ColumnarValue::Array(take(&answers, &places, None)?),
            same_for_all => same_for_all,
        })
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.0.inner().simplify(args, info)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.0.inner().preimage(args, literal, info)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.0.inner().evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.0.inner().propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.0.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.0.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.0.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.inner().documentation()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{RecordBatch, TimestampMillisecondArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// The column `t` of the answers, by DataFusion's functions and by these.
    async fn both(times: ArrayRef, sql: &str) -> [std::result::Result<Vec<RecordBatch>, String>; 2] {
        let stock = SessionStateBuilder::new().with_default_features();
        let mut own = SessionStateBuilder::new().with_default_features();
        let functions = by_distinct(own.scalar_functions().take().unwrap());
        let extract = ExtractByDistinct::of(&functions).unwrap();
        own.expr_planners().get_or_insert_default().insert(0, Arc::new(extract));
        let own = own.with_scalar_functions(functions);
        let schema = Arc::new(Schema::new(vec![Field::new("t", times.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(schema, vec![times]).unwrap();
        let mut answers = Vec::new();
        for state in [stock, own] {
            let context = SessionContext::new_with_state(state.build());
            context.register_batch("times", batch.clone()).unwrap();
            let answer = match context.sql(sql).await {
                Ok(frame) => frame.collect().await,
                Err(error) => Err(error),
            };
            answers.push(answer.map_err(|error| error.strip_backtrace()));
        }
        answers.try_into().unwrap()
    }

    fn columns() -> Vec<ArrayRef> {
        let mut random = fastrand::Rng::with_seed(11);
        let mut few = || (0..900).map(|_| 1_597_017_600 + 3600 * random.i64(-3000..20)).collect::<Vec<i64>>();
        let hours: Vec<i64> = (0..900).map(|row| 1_597_017_600 + 7200 * (row % 12)).collect();
        let before_1970: Vec<i64> = (0..900).map(|row| -1 - 5000 * (row % 30)).collect();
        let utc = |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampSecondArray::from(values).with_timezone("UTC")) };
        let far = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampSecondArray::from(values).with_timezone("America/Los_Angeles"))
        };
        let with_nulls = hours.iter().enumerate().map(|(row, hour)| (row % 7 > 0).then_some(*hour));
        let with_nulls = TimestampSecondArray::from_iter(with_nulls).with_timezone("UTC");
        let millis = TimestampMillisecondArray::from_iter_values(hours.iter().map(|hour| hour * 1000 + 7));
        vec![
            utc(few()),
            utc(hours.clone()),
            far(hours.clone()),
            utc(before_1970),
            Arc::new(TimestampSecondArray::from(hours)),
            Arc::new(with_nulls),
            Arc::new(millis),
            utc(vec![]),
            utc(vec![5]),
        ]
    }

    #[tokio::test]
    async fn every_answer_is_that_of_the_function_itself() {
        let mut questions: Vec<String> = ["second", "minute", "hour", "day", "week", "month", "quarter", "year", "eon"]
            .iter()
            .map(|of| format!("SELECT date_trunc('{of}', t) AS a FROM times"))
            .collect();
        questions.extend(
            ["second", "minute", "hour", "day", "week", "dow", "doy", "month", "quarter", "year", "epoch", "eon"]
                .iter()
                .map(|of| format!("SELECT date_part('{of}', t) AS a FROM times")),
        );
        questions.extend(
            [
                "EXTRACT(hour FROM t)",
                "EXTRACT(day FROM t) + 1",
                "date_part('year', t) = 2020",
                "date_trunc('day', NULL)",
            ]
            .iter()
            .map(|what| format!("SELECT {what} AS a FROM times")),
        );
        questions.push("SELECT t FROM times WHERE date_part('year', t) = 2020".to_owned());
        questions.push("SELECT date_trunc('day', t) AS a, count(*) FROM times GROUP BY 1 ORDER BY 1".to_owned());
        let (mut answered, mut refused) = (0, 0);
        for times in columns() {
            for sql in &questions {
                let [stock, own] = both(Arc::clone(&times), sql).await;
                assert_eq!(stock, own, "{sql} of {}", times.data_type());
                if own.is_ok() { answered += 1 } else { refused += 1 }
            }
        }
        assert!(answered > 150 && refused > 10, "{answered} answered, {refused} refused");
    }

    #[test]
    fn distinct_times_are_found_where_they_are_few() {
        let few = TimestampSecondArray::from_iter_values((0..100).map(|row| row % 25));
        let (times, places) = distinct_times(&few).expect("four rows a time");
        assert_eq!((times.len(), places.len()), (25, 100));
        let many = TimestampSecondArray::from_iter_values((0..100).map(|row| row % 26));
        assert!(distinct_times(&many).is_none());
    }
}
