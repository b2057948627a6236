from selva_audio.scenes import MATERIALS, caption, draw_scene, prompt, prompts


def test_every_prompt_names_its_material_and_no_other():
    for name in MATERIALS:
        for text in prompts(name):
            assert name in text.split()
            assert not (set(MATERIALS) - {name}) & set(text.split())


def test_prompts_of_a_material_are_distinct():
    for name in MATERIALS:
        assert len(set(prompts(name))) == len(prompts(name)) >= 4
        assert prompt(name, len(prompts(name))) == prompt(name, 0)


def test_the_caption_names_all_objects_from_left_to_right():
    scene = draw_scene(0, split="val", num_objects=3)
    text = caption(scene)
    places = [text.index(each.material.name) for each in scene.objects]
    assert places == sorted(places)
