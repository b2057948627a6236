from benchmarks.results import PAGE, page


def test_the_page_of_results_is_made_of_the_files_beside_it():
    assert PAGE.read_text() == page()


def test_every_result_says_where_it_was_measured():
    assert page().count("Commit ") == page().count("\n## ")
