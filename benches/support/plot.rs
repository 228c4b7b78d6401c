//! The cost of a guest over the number of guests, as a picture.

use plotters::prelude::*;

/// Draws points of guests and microseconds into an SVG file.
pub(crate) fn draw(path: &str, points: &[(f64, f64)]) {
    let most = points.iter().map(|(_, cost)| *cost).fold(1.0, f64::max);
    let (fewest, guests) = (points.first().map_or(1.0, |it| it.0), points.last().map_or(10.0, |it| it.0));
    let root = SVGBackend::new(path, (760, 420)).into_drawing_area();
    let drawn = (|| {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption("CPU time of virtstatd for one guest and period", ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((fewest * 0.8..guests * 1.25).log_scale(), (10.0..most * 2.0).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("guests (2 vCPUs, 2 disks, 2 NICs on average)")
            .y_desc("microseconds")
            .x_label_formatter(&|guests| format!("{guests:.0}"))
            .y_label_formatter(&|cost| format!("{cost:.0}"))
            .light_line_style(WHITE.mix(0.0))
            .draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), &BLUE))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, BLUE.filled())))?;
        chart.draw_series(
            points.iter().map(|point| Text::new(format!("{:.0}", point.1), *point, ("sans-serif", 15).into_font())),
        )?;
        root.present()
    })();
    if let Err(error) = drawn {
        eprintln!("scale: cannot draw {path}: {error}");
    }
}
