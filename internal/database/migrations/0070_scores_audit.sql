-- The scanner gives at most 60 to a skill that can make an agent do something. Scores from
-- before that say nothing.
UPDATE agent_skills SET score = 60 WHERE score > 60;
