"""A run as one self-contained HTML page, made only from stored data.

The page opens with the answer: a sentence, the table, the Pareto front. What qualifies it is folded below.

matplotlib draws the charts as inline SVG (20 to 50 kB each), so that the page works without JavaScript, on paper and
in ten years. plotly, bokeh and vega need a script of 1 to 4.5 MB in every file and a second, static drawing of each
chart. The page's own script of 120 lines only sorts and filters tables and enlarges pictures; the content security
policy blocks everything else.
"""
