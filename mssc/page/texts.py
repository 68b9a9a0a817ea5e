"""What the page says, in words that a student understands. Markdown, unless it is HTML."""

INTRO = """# Who does what, where and when?
A box follows everybody in your video, for as long as an action lasts. Nobody else sees the video; it is deleted when you close the
page."""
INSIDE = """### What happens inside, on your own video
The paper makes two claims. The **Motion Sense Module** (MSM) moves the features of an action away from the video's average, so that
they stand out from the background. The **Semantic Correction Fusion Module** (SFM) lets the path that sees the picture and the path
that sees motion correct each other. Find actions in a video first; then choose a moment, and one or two models, and see for yourself."""
EMBEDDING = """Each point of the picture below is a place in a frame of your video: coloured where somebody acts, grey in the
background. If MSM does what is claimed, the two are easier to tell apart after it. AUROC says how well a straight line tells them apart
in parts of the video that it was not fitted on: 0.5 is guessing, 1 is perfect. One video proves nothing; it shows what to look for."""
LIVE = """Your camera, live: step back until most of you is in the picture. Pictures go to this server while the camera is on, and nothing
is kept."""
PROMPTS = {
    "wave": "wave",
    "clap": "clap",
    "pick": "pick something up",
    "sit": "sit down",
    "stand": "stand up",
    "jump": "jump",
    "brush hair": "brush your hair",
    "throw": "throw a ball",
}
"""What to try before the camera, by action."""
FOOTER = """MS-SC re-implements the *Motion Sense and Semantic Correction* framework (ICASSP 2024) from its poster. The model on
people is trained on J-HMDB: 21 everyday actions in short clips, so expect mistakes elsewhere. jhmdb-plain is the same without MSM and SFM,
to compare with. The toy model knows six movements of drawn figures."""
LEFT = "You left before the end."
CORNER = "The message in the corner says why."
